"""What importing costs, what is public, and that rooms only import lower ones."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import imports
import networkx as nx
import pytest

import circuit_nb


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
        ("from circuit_nb.evidence import propose", HEAVY | {"plotly", "networkx"}),
        ("from circuit_nb import GraphSet", HEAVY | {"plotly", "pandas", "ray"}),
        ("import circuit_nb.atlas", HEAVY),
        ("from circuit_nb import attribute", {"transformer_lens", *WIDGETS}),
    ],
)
def test_imports_stay_light(statement: str, absent: set[str]) -> None:
    assert not _loaded(statement) & absent


def test_pins_and_switches_of_a_graph_without_its_model_need_no_torch() -> None:
    tests = str(Path(__file__).parent)
    lines = (
        f"sys.path.insert(0, {tests!r})",
        "from made import CAPITAL, small_graph",
        "from circuit_nb.panels import Session",
        "from circuit_nb.panels.state import Switch",
        "session = Session(small_graph(), cards={})",
        "session.pin(CAPITAL)",
        "session.setup = session.setup.set_switch(CAPITAL, Switch(on=False))",
        "assert session.interventions()",
    )
    assert not _loaded("; ".join(lines)) & {"torch", "transformer_lens"}


def test_a_published_graph_is_explored_without_torch() -> None:
    tests = str(Path(__file__).parent)
    lines = (
        f"sys.path.insert(0, {tests!r})",
        "from made import CAPITAL, small_graph",
        "from circuit_nb import explore",
        "explorer = explore(small_graph(), cards={}, propose=True)",
        "explorer._repr_mimebundle_()",
        "session = explorer.session",
        "[setattr(session, 'tab', tab) for tab in explorer.turns.panels]",
        "session.select(CAPITAL)",
        "session.pin(CAPITAL)",
    )
    assert not _loaded("; ".join(lines)) & {"torch", "transformer_lens"}


def test_names_imported_on_first_use_are_those_that_are_listed() -> None:
    intervention = circuit_nb.intervention
    for name in intervention.__all__:
        assert getattr(intervention, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        intervention.nothing  # noqa: B018


def test_public_names_are_sorted_complete_and_importable() -> None:
    names = circuit_nb.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(circuit_nb, name) is not None
    assert set(names) <= set(dir(circuit_nb))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        circuit_nb.nothing  # noqa: B018


def test_rooms_only_import_lower_ones() -> None:
    up = [
        f"{importer} imports {imported}"
        for importer, found in imports.modules().items()
        for imported in found
        if not imports.is_down(importer, imported)
    ]
    assert not up


def test_no_module_reaches_itself() -> None:
    graph = nx.DiGraph((a, b) for a, found in imports.modules().items() for b in found)
    assert not list(nx.simple_cycles(graph))


def test_the_house_stays_thin() -> None:
    lines = {m: imports.file_of(m).read_text().count("\n") for m in imports.modules()}
    assert max(lines.values()) <= 400
    assert statistics.median(lines.values()) <= 150
    rooms: dict[str, int] = {}
    for module, count in lines.items():
        rooms[imports.room(module)] = rooms.get(imports.room(module), 0) + count
    large = {room for room, count in rooms.items() if count > 1600}
    assert large <= {"figures", "panels", "making"}


def test_the_check_sees_late_imports_and_the_face(tmp_path: Path) -> None:
    file = tmp_path / "made.py"
    file.write_text("def f():\n    from circuit_nb import attribute\n    import circuit_nb.atlas\n")
    assert imports.imported_by(file) == {"circuit_nb", "circuit_nb.atlas"}
    assert not imports.is_down("circuit_nb.graph", "circuit_nb")
    assert not imports.is_down("circuit_nb.attribution.rows", "circuit_nb.panels.page")
