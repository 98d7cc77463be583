"""Which module imports which, late imports and those for types included.

`python tests/imports.py` prints the rooms from the lowest up: their size, and what each imports.
"""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "circuit_nb"

FLOORS = (
    {"version", "files", "given", "influence", "lazy", "limits", "bridge"},
    {"graph_check", "hub"},
    {"atlas", "strict_json"},
    {"finding"},
    {"graph"},
    {"analysis", "transcoders", "published"},
    {"neuronpedia", "figures", "grouping"},
    {"patterns"},
    {"model"},
    {"frozen", "intervention"},
    {"attribution"},
    {"cards", "training"},
    {"evidence"},
    {"graphsets"},
    {"panels"},
    {"sharing"},
    {"demo", "making"},
    {"__main__"},
)
"""Rooms from the lowest up. A module imports its own room and lower floors only."""

ENTRANCES = {"circuit_nb.atlas.build", "circuit_nb.atlas.evaluate", "circuit_nb.panels.exporting"}
"""They stand where a user looks for them and only hand on to a higher room: the first two are run
by `python -m` and hand on to `atlas.making`, the last is `Explorer.export` and hands on to
`sharing`."""

FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def name_of(path: Path) -> str:
    """Dotted name of a module of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The room a module stands in; `atlas.making` is one of its own."""
    parts = module.split(".")
    return "making" if "making" in parts else parts[1]


def imported_by(path: Path) -> set[str]:
    """What a file imports of the package, as dotted names; names of the face as the face itself."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "circuit_nb"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "circuit_nb":
            assert node.module is not None
            home = PACKAGE.parent.joinpath(*node.module.split("."))
            for alias in node.names:
                is_module = (home / alias.name).is_dir() or (home / f"{alias.name}.py").is_file()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
    return found


def modules() -> dict[str, set[str]]:
    """Every module of the package but its face, and what it imports."""
    paths = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]
    return {name_of(path): imported_by(path) - {name_of(path)} for path in paths}


def is_down(importer: str, imported: str) -> bool:
    """Whether an import stays in its room or goes to a lower floor."""
    if imported == "circuit_nb":
        return False
    if importer in ENTRANCES or room(importer) == room(imported):
        return True
    return FLOOR[room(imported)] < FLOOR[room(importer)]


def file_of(module: str) -> Path:
    """Where a module's code stands."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def main() -> None:
    """Print the rooms."""
    graph = modules()
    lines = {name: len(file_of(name).read_text(encoding="utf-8").splitlines()) for name in graph}
    for number, rooms in reversed(list(enumerate(FLOORS))):
        for here in sorted(rooms):
            inside = [name for name in graph if room(name) == here]
            used = sorted({room(other) for name in inside for other in graph[name]} - {here})
            size = sum(lines[name] for name in inside)
            print(f"{number} {here:13}{len(inside):3} modules {size:5} lines  → {', '.join(used)}")
    sizes = sorted(lines.values())
    up = [(a, b) for a, found in graph.items() for b in found if not is_down(a, b)]
    print(f"largest module {sizes[-1]} lines, median {sizes[len(sizes) // 2]}")
    print(f"arrows up: {up or 'none'}")


if __name__ == "__main__":
    main()
