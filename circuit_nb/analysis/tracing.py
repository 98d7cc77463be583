"""Where features get their input from, what they do to the outputs, and which say nothing.

Both are sums over all paths of signed shares: an edge counts as the part of its target's input
that it is, |weights| of a row summing to one (Ameisen et al. 2025, "Graph pruning").
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import numpy as np

from circuit_nb.analysis.flow import LEAST_SUM, Floats, Mask, by_layer, flow
from circuit_nb.graph import AttributionGraph

DENSE = 0.1
"""Share of all tokens from which on a feature that is active there says nothing."""


def origins(graph: AttributionGraph) -> Floats:
    """Signed share of each feature's input that comes from each error and token in the end.

    Returns:
        (n_features, n_errors + positions); what reaches a feature through others is traced back
        to where it began.
    """
    n = len(graph.features)
    per = 1 / np.maximum(flow(graph).sums, LEAST_SUM)
    traced = np.zeros((n, graph.weights.shape[1] - n), dtype=np.float32)
    for first, end in by_layer(graph.features[:, 0]):
        rows = graph.weights[first:end] * per[first:end, None]
        traced[first:end] = rows[:, n:] + rows[:, :first] @ traced[:first]
    return traced


_effects: WeakKeyDictionary[AttributionGraph, Floats] = WeakKeyDictionary()


def effects(graph: AttributionGraph) -> Floats:
    """What each feature does to each target through all paths, in the target's own unit.

    Returns:
        (n_targets, n_features), signed: the target's input that comes from the feature in the end.
    """
    found = _effects.get(graph)
    if found is None:
        found = _effects[graph] = _traced(graph)
    return found


def _traced(graph: AttributionGraph) -> Floats:
    """`effects`, (n_targets, n_features)."""
    n = len(graph.features)
    per = 1 / np.maximum(flow(graph).sums, LEAST_SUM)
    found = graph.weights[n:, :n].copy()
    for first, end in reversed(by_layer(graph.features[:, 0])):
        # Whatever lies above is complete by now; it hands on what it gets from this layer.
        found[:, first:end] += (found[:, end:] * per[end:n]) @ graph.weights[end:n, first:end]
    found.setflags(write=False)
    return found


def pulls(graph: AttributionGraph) -> Floats:
    """To first order, by how much each feature raises each target's probability.

    The derivative of a softmax over the targets, p (e - Σ p e), applied to `effects`; zeros where
    there is but one target.

    Returns:
        (n_targets, n_features), in probability among the targets.
    """
    found = effects(graph)
    share = graph.target_probabilities / max(float(graph.target_probabilities.sum()), 1e-30)
    return np.asarray(share[:, None] * (found - share @ found), dtype=np.float32)


def ubiquitous(
    graph: AttributionGraph, density: Mapping[tuple[int, int], float] | None = None
) -> Mask:
    """Features that stand back, (n_nodes,) in node order; False for errors, tokens and targets.

    Those active at most positions of this prompt, the special first one left out, and those
    active on a tenth of all tokens or more where that is known: they tell no prompt from another.

    Args:
        graph: The graph.
        density: Share of all tokens on which a feature is active, by (layer, index).
    """
    result = np.zeros(graph.n_nodes, dtype=np.bool_)
    if not len(graph.features):
        return result
    named, inverse = np.unique(graph.features[:, [0, 2]], axis=0, return_inverse=True)
    inverse = inverse.ravel()
    often = np.bincount(inverse) > max(2.0, (len(graph.tokens) - 1) / 2)
    if density:
        dense = [density.get((layer, index), 0.0) >= DENSE for layer, index in named.tolist()]
        often |= np.array(dense)
    result[graph.blocks.features] = often[inverse]
    return result
