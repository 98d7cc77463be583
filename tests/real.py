"""Published graphs of a real model, where the folder with them is there."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from circuit_nb import neuronpedia
from circuit_nb.graph import AttributionGraph, Feature

FOLDER = Path(__file__).parents[2] / "shared" / "real_graphs"
NAMES = (
    *("dallas-clt", "small-big-plt", "bee-insect-plt", "caffeine-clt", "nobel-clt"),
    *(f"analogies/{p.stem}" for p in sorted((FOLDER / "analogies").glob("*.json"))),
)


@cache
def real_graph(name: str) -> tuple[AttributionGraph, dict[tuple[int, int], str]]:
    """A published graph and the labels in its file; the test is skipped where it is missing."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"needs the published graphs in {FOLDER}, which are not part of the project")
    file = neuronpedia.read(path)
    named = file.annotations.labels.items()
    return file.graph, {(n.layer, n.index): t for n, t in named if isinstance(n, Feature)}
