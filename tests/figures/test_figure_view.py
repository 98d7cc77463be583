"""What is drawn without being asked for, what it is called, and walking along edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made import CAPITAL, OTHER, SAY, TEXAS, crowd, small_graph
from real import NAMES, real_graph

from circuit_nb.figures.measures import MOST, Measures
from circuit_nb.figures.naming import picture_name
from circuit_nb.figures.view import GraphView
from circuit_nb.figures.walk import Walk
from circuit_nb.graph import Feature, TargetNode, TokenNode


@pytest.mark.parametrize("name", NAMES)
def test_about_as_many_nodes_are_drawn_whatever_the_size(name: str) -> None:
    graph, _ = real_graph(name)
    measures = Measures(graph)
    assert 60 <= int(GraphView(measures, measures.usual).shown.sum()) <= 150


@pytest.mark.parametrize("size", [200, 1000, 5000])
def test_so_it_is_with_random_graphs(size: int) -> None:
    measures = Measures(crowd(size, 4 * size))
    assert 60 <= int(GraphView(measures, measures.usual).shown.sum()) <= MOST + 15


def test_a_small_graph_is_drawn_whole() -> None:
    assert Measures(small_graph()).usual == 1.0


def test_features_that_fire_on_everything_stand_back() -> None:
    graph = small_graph()
    features = np.array([[0, p, 7] for p in range(1, 6)])
    weights = graph.weights.copy()
    weights[:5, :23] = 0
    dense = replace(graph, features=features, weights=weights)
    measures = Measures(dense)
    assert measures.everywhere[:5].all() and not measures.everywhere[5:].any()
    view = GraphView(measures, 1.0)
    assert view.left_out == {"density": 5}
    assert "5 that fire on nearly everything" in view.summary
    assert GraphView(measures, 1.0, everywhere=True).left_out == {}
    pinned = Feature(0, 2, 7)
    assert GraphView(measures, 1.0, always=frozenset([pinned])).left_out == {"density": 4}
    assert picture_name(measures, pinned) == "fires on everything"
    by_density = Measures(graph, {(TEXAS.layer, TEXAS.index): 0.7})
    assert np.flatnonzero(by_density.everywhere).tolist() == [graph.number(TEXAS)]


def test_what_is_left_out_is_counted_by_its_reason() -> None:
    view = GraphView(Measures(small_graph()), 0.5, errors=False, layers=(1, 2))
    assert view.left_out["errors"] == 18
    assert view.left_out["layers"] == 2
    assert int(view.drawn.sum()) + sum(view.left_out.values()) == view.graph.n_nodes
    for words in ("18 errors", "2 in other layers", "beyond 50 % of the influence"):
        assert words in view.summary


def test_a_feature_without_a_label_is_called_by_what_it_raises() -> None:
    measures = Measures(small_graph())
    assert picture_name(measures, SAY) == "→ Austin"
    assert picture_name(measures, SAY, {(2, 11): "say Austin"}) == "say Austin"
    automatic = {(2, 11): "fires on is → promotes Austin, Dallas"}
    assert picture_name(measures, SAY, automatic) == "is → Austin, Dallas"


def test_arrows_walk_along_the_strongest_edges() -> None:
    view = GraphView(Measures(small_graph()), 1.0)
    walk = Walk().step(view, "down")
    assert walk.at == TargetNode(0)
    walk = walk.step(view, "down")
    assert walk.at == SAY
    walk = walk.step(view, "down")
    assert walk.at == TEXAS
    # The next stronger of what drives `say Austin`, and back.
    assert walk.step(view, "right").at == OTHER
    assert walk.step(view, "right").step(view, "left").at == TEXAS
    assert walk.step(view, "left") == walk
    walk = walk.step(view, "down")
    assert walk.at == TokenNode(4)
    assert walk.step(view, "down") == walk
    assert walk.step(view, "up").at == TEXAS
    # With no edge followed, along the row.
    assert Walk(TokenNode(4)).step(view, "right").at == TokenNode(5)


def test_only_what_is_drawn_is_walked_to() -> None:
    view = GraphView(Measures(small_graph()), 1.0, errors=False, layers=(0, 0))
    assert not view.drawn[view.graph.number(SAY)]
    walk = Walk(TargetNode(0)).step(view, "down")
    assert walk.at == TokenNode(5)
    assert walk.step(view, "right").at == CAPITAL
