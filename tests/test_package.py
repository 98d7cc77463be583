"""What importing costs, what is public, and that modules only import downwards."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import circuit_nb

PACKAGE = Path(circuit_nb.__file__).parent

LAYERS = (
    {"files", "graph_check", "devices", "read_ahead"},
    {"set_config", "npz_file"},
    {"graph", "weight_files", "known", "http_client", "vocabulary", "memory", "record"},
    {"analysis", "architecture", "transcoders", "hub_errors", "machine", "bridges"},
    {"hub", "neuronpedia", "transcoder_files"},
    {"model"},
    {"frozen", "columns", "patching", "chat"},
    {"tokens", "intervention"},
    {"linear"},
    {"sources"},
    {"rows"},
    {"attribution"},
    {"cards", "figures"},
    {"atlas"},
    {"panels", "demo", "published"},
    {"__main__"},
)
"""Modules from the lowest up; each may import those of lower lines, and its own package."""

LATE = {("model", "atlas"), ("cards", "atlas"), ("panels", "atlas")}
"""Imports inside functions, of the data that ships with the library."""


def _loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return {name.partition(".")[0] for name in found.stdout.split()}


WIDGETS = {"ipywidgets", "anywidget", "traitlets", "IPython"}
HEAVY = {"torch", "transformer_lens", "transformers", *WIDGETS}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import circuit_nb", HEAVY | {"numpy", "plotly", "networkx"}),
        ("import circuit_nb.__main__", HEAVY | {"numpy", "plotly"}),
        ("from circuit_nb import AttributionGraph", HEAVY | {"plotly"}),
        ("from circuit_nb import prune, scores", HEAVY | {"plotly"}),
        ("from circuit_nb import figures", HEAVY),
        ("from circuit_nb import neuronpedia", HEAVY),
        ("import circuit_nb.atlas", HEAVY),
        ("from circuit_nb import attribute", {"transformer_lens", *WIDGETS}),
    ],
)
def test_imports_stay_light(statement: str, absent: set[str]) -> None:
    assert not _loaded(statement) & absent


def test_public_names_are_sorted_complete_and_importable() -> None:
    names = circuit_nb.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(circuit_nb, name) is not None
    assert set(names) <= set(dir(circuit_nb))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        circuit_nb.nothing  # noqa: B018


def _imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, by their first name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "circuit_nb":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("circuit_nb."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            found |= {name[1] for name in names if name[0] == "circuit_nb" and len(name) > 1}
    return found


def _module(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_modules_import_downwards_only(path: Path) -> None:
    own = _module(path)
    home = {**circuit_nb._HOME, "__version__": "graph"}
    for name in _imports(path):
        other = home.get(name, name)
        if other != own and (own, other) not in LATE:
            assert HEIGHT[other] < HEIGHT[own], f"{own} imports {other}"
