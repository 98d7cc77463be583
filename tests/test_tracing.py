"""Where features get their input from, what they do to the outputs, and which say nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from made import TEXAS, small_graph
from test_graph import random_graph

from circuit_nb.analysis import effects, origins, pulls, ubiquitous
from circuit_nb.graph import AttributionGraph


def signed(graph: AttributionGraph) -> np.ndarray:
    return graph.weights / np.maximum(np.abs(graph.weights).sum(1, keepdims=True), 1e-10)


@given(st.integers(0, 2**31))
def test_origins_and_effects_are_sums_over_all_paths(seed: int) -> None:
    graph = random_graph(seed)
    n, shares = len(graph.features), signed(graph)
    through = np.linalg.inv(np.eye(n) - shares[:n, :n])
    np.testing.assert_allclose(origins(graph), through @ shares[:n, n:], atol=1e-5)
    np.testing.assert_allclose(effects(graph), graph.weights[n:, :n] @ through, atol=1e-4)


@given(st.integers(0, 2**31))
def test_pulls_are_the_derivative_of_the_targets_probabilities(seed: int) -> None:
    graph = random_graph(seed, n_targets=3)
    share = graph.target_probabilities / graph.target_probabilities.sum()
    logits = np.log(share.astype(np.float64))
    step = 1e-4 * effects(graph).astype(np.float64)
    moved = np.exp(logits[:, None] + step)
    slope = (moved / moved.sum(0) - share[:, None]) / 1e-4
    np.testing.assert_allclose(pulls(graph), slope, atol=2e-2 * np.abs(slope).max())
    np.testing.assert_allclose(pulls(graph).sum(0), 0, atol=1e-5)


def test_one_output_is_pulled_at_by_nothing() -> None:
    assert not pulls(random_graph(n_targets=1)).any()


def test_a_feature_on_at_most_positions_or_on_most_text_stands_back() -> None:
    graph = small_graph()
    assert not ubiquitous(graph).any()
    places = graph.features.copy()
    places[:, [0, 2]] = (0, 7)
    places[:, 1] = np.arange(1, 6)
    weights = graph.weights.copy()
    weights[:5, : graph.blocks.errors.stop] = 0  # edges lead to higher layers only
    everywhere = replace(graph, features=places, weights=weights)
    assert ubiquitous(everywhere).tolist() == [True] * 5 + [False] * (graph.n_nodes - 5)
    dense = ubiquitous(graph, {(TEXAS.layer, TEXAS.index): 0.2, (1, 9): 0.02})
    assert dense.tolist() == [node == TEXAS for node in graph.nodes]


def test_a_graph_without_features_has_nothing_to_trace() -> None:
    graph = small_graph()
    n = len(graph.features)
    none = replace(
        graph, features=np.zeros((0, 3)), activations=np.zeros(0), weights=graph.weights[n:, n:]
    )
    assert origins(none).shape == (0, len(graph.errors) + len(graph.tokens))
    assert effects(none).shape == pulls(none).shape == (2, 0)
    assert not ubiquitous(none).any()
