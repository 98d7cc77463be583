"""How the words of a prompt lead to the answer."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import CAPITAL, DIMMER, LABELS, OTHER, SAY, TEXAS, small_graph
from test_graph import random_graph

from circuit_nb.analysis import normalized, story, ubiquitous
from circuit_nb.analysis.stories import ALSO, EDGES, WORTH
from circuit_nb.graph import (
    AttributionGraph,
    ErrorNode,
    Feature,
    Node,
    TargetNode,
    TokenNode,
)
from circuit_nb.neuronpedia import read

REAL = Path(__file__).parents[1].parent / "shared" / "real_graphs"


def test_the_story_leaves_the_word_and_reaches_the_answer_by_a_feature_each() -> None:
    found = story(small_graph(), LABELS)
    assert found[0].nodes == (TokenNode(4), TEXAS, OTHER, SAY, TargetNode(0))
    assert found[0].sign == 1
    assert (TokenNode(2), CAPITAL, SAY, TargetNode(0)) in [path.nodes for path in found]
    share = normalized(small_graph().weights)
    graph = small_graph()
    rows = {number: row for row, number in enumerate(graph.rows.tolist())}
    edges = [share[rows[graph.number(b)], graph.number(a)] for a, b in pairwise(found[0].nodes)]
    assert found[0].share == pytest.approx(np.prod(edges))


def test_only_named_features_are_passed_where_any_chain_has_names() -> None:
    graph = small_graph()
    without = {key: text for key, text in LABELS.items() if key != (0, 7)}
    assert TEXAS not in {n for path in story(graph, without) for n in path.nodes}
    by_node = {TEXAS: "Texas", OTHER: "", SAY: "say Austin"}
    assert story(graph, by_node)[0].nodes == (TokenNode(4), TEXAS, SAY, TargetNode(0))
    # A label that no chain can be made of is no reason to tell nothing.
    assert story(graph, {(1, 9): "dim"}) == story(graph)


def test_a_feature_that_stands_back_is_not_passed() -> None:
    dense = {(TEXAS.layer, TEXAS.index): 0.5}
    found = story(small_graph(), LABELS, density=dense)
    assert found
    assert not any(TEXAS in path.nodes for path in found)


def test_the_last_word_is_told_of_where_there_is_no_other() -> None:
    graph = small_graph()
    weights = graph.weights.copy()
    weights[graph.number(SAY), graph.number(DIMMER)] = 0.2
    tokens = slice(graph.blocks.tokens.start, graph.blocks.tokens.stop - 1)
    weights[:, tokens] = 0
    found = story(replace(graph, weights=weights))
    assert [path.nodes[0] for path in found] == [TokenNode(5)]
    assert found[0].nodes == (TokenNode(5), DIMMER, SAY, TargetNode(0))


def test_a_feature_can_be_explained_and_nothing_else_but_outputs() -> None:
    graph = small_graph()
    assert story(graph, target=OTHER)[0].nodes == (TokenNode(4), TEXAS, OTHER)
    assert story(graph, target=TokenNode(2)) == story(graph, target=ErrorNode(0, 2)) == []
    with pytest.raises(ValueError, match="not in this graph"):
        story(graph, target=Feature(9, 9, 9))


def test_two_minus_signs_are_no_story() -> None:
    """The word dims what lowers the other output: true, and not what a reader takes it for."""
    graph = small_graph()
    assert graph.weight(DIMMER, SAY) < 0
    assert graph.weight(SAY, TargetNode(1)) < 0
    assert story(graph, target=TargetNode(1)) == []


def test_a_graph_without_features_or_outputs_has_no_story() -> None:
    graph = small_graph()
    n = len(graph.features)
    bare = replace(
        graph, features=np.zeros((0, 3)), activations=np.zeros(0), weights=graph.weights[n:, n:]
    )
    assert story(bare) == []
    mute = replace(
        graph, targets=(), target_ids=[], target_probabilities=[], weights=graph.weights[:n]
    )
    assert story(mute) == []


def every_chain(graph: AttributionGraph, position: int) -> dict[tuple[Node, ...], float]:
    """All chains a story from a word might be, and their strengths; negative if a step lowers."""
    share = normalized(graph.weights)
    row_of = {number: row for row, number in enumerate(graph.rows.tolist())}
    last, back = len(graph.tokens) - 1, ubiquitous(graph)
    found: dict[tuple[Node, ...], float] = {}

    def extend(chain: tuple[Node, ...], strength: float) -> None:
        for number in graph.rows.tolist():
            node, here = graph.nodes[number], chain[-1]
            step = share[row_of[number], graph.number(here)] * abs(strength)
            if strength < 0 or graph.weights[row_of[number], graph.number(here)] < 0:
                step = -step
            if not step or len(chain) > EDGES or back[number]:
                continue
            if len(chain) == 1 and not (isinstance(node, Feature) and node.position == position):
                continue
            if node == TargetNode(0):
                if isinstance(here, Feature) and here.position == last:
                    found[(*chain, node)] = step
            elif isinstance(node, Feature):
                extend((*chain, node), step)

    extend((TokenNode(position),), 1.0)
    return found


def typical(chain: tuple[Node, ...], strength: float) -> float:
    return strength ** (1 / (len(chain) - 1))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_each_story_is_the_best_of_its_word(seed: int, ways: int) -> None:
    graph = random_graph(seed, n_features=10)
    told = story(graph, target=TargetNode(0), top_k=9, ways=ways)
    every = {p: every_chain(graph, p) for p in range(1, len(graph.tokens))}
    totals = {
        p: sum(map(abs, chains.values()))
        for p, chains in every.items()
        if any(s > 0 for s in chains.values())
    }
    order = sorted(totals, key=lambda p: (p == len(graph.tokens) - 1, -totals[p]))
    expected = [p for p in order if totals[p] >= WORTH * totals[order[0]]]
    words = [path.nodes[0] for path in told]
    assert list(dict.fromkeys(words)) == [TokenNode(p) for p in expected]
    for position in expected:
        of_word = [path for path in told if path.nodes[0] == TokenNode(position)]
        chains, passed, least = every[position], set[Node](), 0.0
        for path in of_word:
            rising = {
                c: typical(c, s) for c, s in chains.items() if s > 0 and not passed & set(c[1:-1])
            }
            assert rising[path.nodes] == pytest.approx(max(rising.values()), rel=1e-5)
            assert path.share == pytest.approx(chains[path.nodes], rel=1e-5)
            assert path.sign == 1
            least = least or ALSO * rising[path.nodes]
            assert rising[path.nodes] >= least * (1 - 1e-6)
            passed |= set(path.nodes[1:-1])
        left = [typical(c, s) for c, s in chains.items() if s > 0 and not passed & set(c[1:-1])]
        assert len(of_word) == ways or max(left, default=0.0) <= least * (1 + 1e-6)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real graphs are not on this machine")
@pytest.mark.parametrize(
    ("name", "word", "named"),
    [
        ("dallas-clt", " Dallas", "Texas"),
        ("small-big-plt", "small", "size"),
        ("bee-insect-plt", " bee", "bugs"),
        ("caffeine-clt", " tea", "Coffee"),
        ("nobel-clt", "Nobel", "Scandinavia"),
    ],
)
def test_real_graphs_open_on_the_word_that_matters(name: str, word: str, named: str) -> None:
    file = read(REAL / f"{name}.json")
    told = story(file.graph, file.annotations.labels, top_k=1, ways=2)
    inside = [node for path in told for node in path.nodes[1:-1]]
    for path in told:
        assert isinstance(start := path.nodes[0], TokenNode)
        assert file.graph.tokens[start.position] == word
        assert path.nodes[-1] == TargetNode(0)
        assert all(file.graph.weight(a, b) > 0 for a, b in pairwise(path.nodes))
    assert any(named in file.annotations.labels[node] for node in inside)
    assert not ubiquitous(file.graph)[[file.graph.number(node) for node in inside]].any()
