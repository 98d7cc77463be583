"""Influence, pruning, scores, paths and comparison."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_graph import random_graph

from circuit_nb.analysis import (
    compare,
    cumulative_influence,
    influence,
    normalized,
    paths,
    prune,
    prune_masks,
    pruning,
    scores,
    supernode_weights,
    to_networkx,
)
from circuit_nb.analysis.pruning import holding
from circuit_nb.graph import AttributionGraph, Feature, Supernode, TargetNode, TokenNode


def adjacency(graph: AttributionGraph) -> np.ndarray:
    """All nodes by all nodes, `[target, source]`."""
    full = np.zeros((graph.n_nodes, graph.n_nodes))
    full[graph.rows, : graph.blocks.targets.start] = normalized(graph.weights)
    return full


@given(st.integers(0, 2**31))
def test_influence_is_the_sum_over_all_walks(seed: int) -> None:
    graph = random_graph(seed)
    start = np.zeros(graph.n_nodes)
    start[graph.blocks.targets] = graph.target_probabilities
    full = adjacency(graph)
    # p (N + N² + …) = p N (1 − N)⁻¹
    expected = np.linalg.solve((np.eye(graph.n_nodes) - full).T, start @ full)
    np.testing.assert_allclose(influence(graph), expected, atol=1e-6)


def holding_by_sorting(strength: np.ndarray, mass: float) -> np.ndarray:
    ordered = np.sort(strength, axis=None)[::-1].astype(np.float64)
    running = np.cumsum(ordered)
    last = min(int(np.searchsorted(running / running[-1], mass)), running.size - 1)
    return strength >= ordered[last]


@given(
    seed=st.integers(0, 2**31), mass=st.floats(0.01, 0.995), ties=st.booleans(), few=st.booleans()
)
def test_the_largest_that_hold_a_mass_are_those_that_sorting_finds(
    seed: int, mass: float, ties: bool, few: bool
) -> None:
    rng = np.random.default_rng(seed)
    strength = np.exp(6 * rng.normal(size=(7, 11))).astype(np.float32)
    strength[rng.random(strength.shape) < 0.3] = 0
    if ties:
        strength = np.exp2(np.round(np.log2(strength + 1e-6))).astype(np.float32)
    expected = holding_by_sorting(strength, mass)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "_FEW", 1000 if few else 0)  # of many values bins are sorted
        np.testing.assert_array_equal(holding(strength, mass), expected)


def test_of_nothing_all_is_held_and_at_a_mass_of_one_all_that_is_something() -> None:
    assert holding(np.zeros(3, np.float32), 0.5).all()
    strength = np.array([3, 0, 1e-9, 2], np.float32)
    assert holding(strength, 0.0).tolist() == [True, False, False, False]
    assert holding(strength[:1], 0.5).tolist() == [True]
    assert holding(np.array([3, 0, 2], np.float32), 1.0).tolist() == [True, False, True]


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), node_mass=st.floats(0.1, 1), edge_mass=st.floats(0.1, 1))
def test_pruning_keeps_what_its_definition_keeps(
    seed: int, node_mass: float, edge_mass: float
) -> None:
    graph = random_graph(seed)
    nodes = holding_by_sorting(influence(graph), node_mass)
    nodes[graph.blocks.tokens.start :] = True
    inside = nodes[graph.rows][:, None] & nodes[: graph.blocks.targets.start]
    left = replace(graph, weights=np.where(inside, graph.weights, 0))
    reach = influence(left)
    reach[graph.blocks.targets] = graph.target_probabilities
    strength = normalized(left.weights) * reach[graph.rows][:, None]
    edges = holding_by_sorting(strength, edge_mass)
    for _ in range(graph.n_nodes):
        nodes[: graph.blocks.errors.stop] &= edges[:, : graph.blocks.errors.stop].any(axis=0)
        nodes[graph.blocks.features] &= edges[: len(graph.features)].any(axis=1)
        edges &= nodes[graph.rows][:, None] & nodes[: graph.blocks.targets.start]
    kept_nodes, kept_edges = prune_masks(graph, node_mass, edge_mass)
    np.testing.assert_array_equal(kept_nodes, nodes)
    np.testing.assert_array_equal(kept_edges, edges)
    small = prune(graph, node_mass, edge_mass)
    assert set(small.nodes) == {n for n, keep in zip(graph.nodes, nodes, strict=True) if keep}
    kept = graph.weights * edges
    np.testing.assert_array_equal(
        small.weights, kept[nodes[graph.rows]][:, nodes[: graph.blocks.targets.start]]
    )


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), low=st.floats(0.05, 1), high=st.floats(0.05, 1))
def test_keeping_more_mass_keeps_a_superset(seed: int, low: float, high: float) -> None:
    graph = random_graph(seed)
    low, high = sorted((low, high))
    few, many = prune(graph, low, 1.0), prune(graph, high, 1.0)
    assert set(few.nodes) <= set(many.nodes)
    few, many = prune(graph, 0.9, low), prune(graph, 0.9, high)
    assert set(few.nodes) <= set(many.nodes)
    assert np.count_nonzero(few.weights) <= np.count_nonzero(many.weights)


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), mass=st.floats(0.05, 0.99))
def test_pruned_graphs_have_no_loose_ends(seed: int, mass: float) -> None:
    small = prune(random_graph(seed), mass, mass)
    n_features = len(small.features)
    assert len(small.tokens) == 4
    assert len(small.targets) == 2
    assert small.weights[:n_features].any(1).all()
    assert small.weights[:, : small.blocks.errors.stop].any(0).all()


@pytest.mark.parametrize("masses", [(1.2, 0.9), (0.8, -0.1)])
def test_masses_outside_0_to_1_are_refused(masses: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="_mass is"):
        prune(random_graph(), *masses)


def test_scores_follow_their_definitions() -> None:
    graph = random_graph(3)
    reach = influence(graph)
    tokens, errors = reach[graph.blocks.tokens].sum(), reach[graph.blocks.errors].sum()
    assert scores(graph).replacement == pytest.approx(tokens / (tokens + errors))
    reach[graph.blocks.targets] = graph.target_probabilities
    lost = adjacency(graph)[:, graph.blocks.errors].sum(1)
    assert scores(graph).completeness == pytest.approx(((1 - lost) * reach).sum() / reach.sum())


def test_a_subgraph_of_everything_scores_as_the_graph_and_of_nothing_lower() -> None:
    graph = random_graph(1)
    features = [n for n in graph.nodes if isinstance(n, Feature)]
    assert scores(graph, features) == pytest.approx(scores(graph))
    assert scores(graph, []).replacement < scores(graph).replacement


@given(st.integers(0, 2**31))
def test_scores_of_a_subgraph_count_every_other_feature_as_an_error(seed: int) -> None:
    graph = random_graph(seed)
    pinned = [n for n in graph.nodes if isinstance(n, Feature)][::2]
    full, n = adjacency(graph), len(graph.features)
    lost = np.zeros(graph.n_nodes, bool)
    lost[graph.blocks.errors] = True
    lost[:n] = [f not in pinned for f in graph.nodes[:n]]
    full[:n][lost[:n]] = 0
    start = np.zeros(graph.n_nodes)
    start[graph.blocks.targets] = graph.target_probabilities
    reach = np.linalg.solve((np.eye(graph.n_nodes) - full).T, start)
    tokens, errors = reach[graph.blocks.tokens].sum(), reach[lost].sum()
    found = scores(graph, pinned)
    assert found.replacement == pytest.approx(tokens / (tokens + errors), rel=1e-4)
    explained = 1 - full[:, lost].sum(1)
    assert found.completeness == pytest.approx((explained * reach).sum() / reach.sum(), rel=1e-4)


def test_what_was_asked_once_can_be_changed_by_whoever_asked() -> None:
    graph = random_graph(2)
    influence(graph)[:] = 0
    assert influence(graph).any()


def test_cumulative_influence_ends_at_one_with_the_strongest_first() -> None:
    graph = random_graph(2)
    running, strength = cumulative_influence(graph), influence(graph)
    assert running.max() == pytest.approx(1)
    assert running[strength.argmax()] == running.min()


@given(st.integers(0, 2**31))
def test_paths_are_the_strongest_there_are(seed: int) -> None:
    import networkx as nx

    graph = random_graph(seed, n_features=8)
    source, target = TokenNode(1), TargetNode(0)
    found = paths(graph, source, target, top_k=4)
    shares = nx.DiGraph()
    full = adjacency(graph)
    for t, s in np.argwhere(full):
        shares.add_edge(graph.nodes[s], graph.nodes[t], share=full[t, s])
    every = sorted(
        (
            float(np.prod([shares.edges[edge]["share"] for edge in pairwise(chain)]))
            for chain in nx.all_simple_paths(shares, source, target)
        ),
        reverse=True,
    )
    assert [p.share for p in found] == pytest.approx(every[:4], rel=1e-5)
    for path in found:
        signs = [np.sign(graph.weight(a, b)) for a, b in pairwise(path.nodes)]
        assert path.sign == np.prod(signs)


def test_paths_avoid_what_they_are_told_to() -> None:
    graph = random_graph(5)
    best = paths(graph, TokenNode(1), TargetNode(0), top_k=1)[0]
    through = next(iter(best.nodes[1:-1]), None)
    others = paths(graph, TokenNode(1), TargetNode(0), avoid=[through] if through else [])
    assert all(through not in path.nodes for path in others)
    assert paths(graph, TokenNode(1), TokenNode(1)) == []


def test_supernode_edges_of_single_nodes_are_the_normalised_edges() -> None:
    graph = random_graph(4)
    feature, target = graph.nodes[0], TargetNode(0)
    assert isinstance(feature, Feature)
    result = supernode_weights(graph, [Supernode("one", [feature]), target])
    share = normalized(graph.weights)[-2, 0] * np.sign(graph.weights[-2, 0])
    assert result[1, 0] == pytest.approx(share)
    assert result[0, 1] == 0


def test_compare_tells_what_is_shared() -> None:
    graph = random_graph(6)
    fewer = prune(graph, 0.6, 1.0)
    result = compare(graph, fewer)
    assert set(result.shared) | set(result.only_first) == {
        n for n in graph.nodes if isinstance(n, Feature)
    }
    assert result.only_second == ()
    assert compare(graph, graph).largest_edge_difference == 0
    shifted = replace(graph, weights=graph.weights * np.float32(1.5))
    assert compare(graph, shifted).largest_edge_difference == pytest.approx(1 / 3)


def test_compare_knows_targets_by_token_not_by_rank() -> None:
    graph = random_graph(6)
    order = np.arange(len(graph.targets))[::-1]
    rows = np.concatenate([np.arange(len(graph.features)), len(graph.features) + order])
    turned = replace(
        graph,
        targets=tuple(graph.targets[i] for i in order),
        target_ids=graph.target_ids[order],
        target_probabilities=graph.target_probabilities[order],
        weights=graph.weights[rows],
    )
    assert len(order) > 1
    assert compare(graph, turned).largest_edge_difference == 0


def test_networkx_has_every_node_and_edge() -> None:
    graph = random_graph(7)
    result = to_networkx(graph)
    assert set(result.nodes) == set(graph.nodes)
    assert result.number_of_edges() == np.count_nonzero(graph.weights)
    source, target = next(iter(result.edges))
    assert result.edges[source, target]["weight"] == graph.weight(source, target)
