from __future__ import annotations

from collections.abc import Iterator

import pytest
from families import DALLAS
from made import cards, small_graph

from circuit_nb import attribute
from circuit_nb.graph import AttributionGraph
from circuit_nb.model import ReplacementModel
from circuit_nb.panels import Explorer, Session, explore


@pytest.fixture
def session() -> Session:
    """The small graph, without a model."""
    return Session(small_graph(), cards=cards)


@pytest.fixture(scope="session")
def dallas(atlas: ReplacementModel) -> AttributionGraph:
    return attribute(atlas, DALLAS, progress=False)


@pytest.fixture
def explorer(atlas: ReplacementModel, dallas: AttributionGraph) -> Iterator[Explorer]:
    made = explore(atlas, dallas)
    yield made
    made.close()
