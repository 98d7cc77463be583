"""The path a picture opens on, what is drawn without being asked for, and walking along edges."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from made import CAPITAL, LABELS, OTHER, SAY, TEXAS, crowd, small_graph
from real import NAMES, real_graph

from circuit_nb import analysis
from circuit_nb.figures.measures import MOST, Measures
from circuit_nb.figures.names import node_name
from circuit_nb.figures.naming import picture_name
from circuit_nb.figures.story import story
from circuit_nb.figures.view import GraphView
from circuit_nb.figures.walk import Walk
from circuit_nb.graph import Feature, TargetNode, TokenNode

WORDS = {
    "dallas-clt": (" Dallas", " Austin", "Texas"),
    "caffeine-clt": (" tea", " caffeine", "tea"),
    "bee-insect-plt": (" bee", " insect", "bees"),
    "nobel-clt": ("Nobel", " Sweden", "Nobel Prize"),
}
"""The word a path begins at, the answer, and what a step between is called."""


@pytest.mark.parametrize("name", NAMES)
def test_a_path_leads_from_a_word_through_features_to_the_answer(name: str) -> None:
    graph, labels = real_graph(name)
    path = story(Measures(graph), labels)
    assert path is not None
    word, *steps, answer = path.nodes
    assert isinstance(word, TokenNode) and 0 < word.position < len(graph.tokens) - 1
    assert answer == TargetNode(0)
    assert 2 <= len(steps) <= 4 and all(isinstance(s, Feature) for s in steps)
    # Every step raises the next, and the share is what `analysis` says of the chain.
    pairs = list(itertools.pairwise(path.nodes))
    assert all(graph.weight(a, b) > 0 for a, b in pairs)
    shares = analysis.normalized(np.stack([graph.inputs(b) for _, b in pairs]))
    product = np.prod([shares[i, graph.number(a)] for i, (a, _) in enumerate(pairs)])
    assert path.share == pytest.approx(float(product), rel=1e-4)
    assert not Measures(graph).everywhere[[graph.number(s) for s in steps]].any()
    if labels:
        names = [labels[s.layer, s.index] for s in steps]
        assert all(a != b for a, b in itertools.pairwise(names))


@pytest.mark.parametrize("name", WORDS)
def test_the_path_tells_what_the_prompt_is_about(name: str) -> None:
    graph, labels = real_graph(name)
    path = story(Measures(graph), labels)
    assert path is not None
    begin, answer, between = WORDS[name]
    assert graph.tokens[path.nodes[0].position] == begin
    assert graph.targets[0] == answer
    assert any(between in node_name(graph, n, labels) for n in path.nodes[1:-1])


def test_the_path_of_a_small_graph() -> None:
    path = story(Measures(small_graph()), LABELS)
    assert path is not None
    # Not through both features called Texas: one name is one step.
    assert path.nodes == (TokenNode(4), TEXAS, SAY, TargetNode(0))
    assert path.share == pytest.approx(
        analysis.paths(small_graph(), TokenNode(4), TargetNode(0), 1, [OTHER])[0].share
    )


def test_where_nothing_raises_the_answer_there_is_no_path() -> None:
    graph = small_graph()
    assert story(Measures(replace(graph, weights=-np.abs(graph.weights)))) is None
    assert story(Measures(graph), target=TargetNode(7)) is None


def test_only_named_features_lie_on_the_path_where_there_are_names() -> None:
    labels = {(CAPITAL.layer, CAPITAL.index): "capital", (SAY.layer, SAY.index): "say Austin"}
    path = story(Measures(small_graph()), labels)
    assert path is not None
    assert path.nodes == (TokenNode(2), CAPITAL, SAY, TargetNode(0))


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
    dense = replace(graph, features=features)
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


def test_effects_are_what_the_whole_graph_predicts() -> None:
    graph = small_graph()
    effects = Measures(graph).effects
    number, act = graph.number, graph.activations
    # Texas raises Austin through `say Austin`, directly and by way of its twin.
    twin = graph.weight(TEXAS, OTHER) / act[number(OTHER)] * graph.weight(OTHER, SAY)
    through = (graph.weight(TEXAS, SAY) + twin) / act[number(SAY)]
    expected = through * graph.weight(SAY, TargetNode(0))
    assert effects[number(TEXAS), 0] == pytest.approx(float(expected), rel=1e-5)


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
