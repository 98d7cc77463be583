"""Influence: how much of the targets' input passes through every node, and the two scores."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from circuit_nb.graph import AttributionGraph, Feature
from circuit_nb.influence import LEAST_SUM as LEAST_SUM
from circuit_nb.influence import Floats, Flow, walk
from circuit_nb.influence import by_layer as by_layer
from circuit_nb.influence import normalized as normalized

Mask: TypeAlias = "npt.NDArray[np.bool_]"


class Scores(NamedTuple):
    """How much of the output the graph's features explain, each from 0 to 1."""

    replacement: float
    """Share of the influence on the targets that starts at tokens rather than at errors."""
    completeness: float
    """Influence-weighted share of each node's input that does not come from errors."""


# What is derived from a graph is kept as long as the graph is.
_flows: WeakKeyDictionary[AttributionGraph, Flow] = WeakKeyDictionary()


def flow(graph: AttributionGraph) -> Flow:
    """The walk through a whole graph, made once however often it is asked for."""
    found = _flows.get(graph)
    if found is None:
        found = _flows[graph] = walk(
            graph.weights, graph.features[:, 0], graph.target_probabilities, graph.blocks.errors
        )
    return found


def influence(graph: AttributionGraph) -> Floats:
    """Influence of every node on the targets, (n_nodes,), in node order; targets get 0.

    The sum over k >= 1 of p N^k, N being the row-normalised strengths and p the targets'
    probabilities (Ameisen et al. 2025, "Graph pruning").
    """
    none = np.zeros(len(graph.targets), dtype=np.float32)
    return np.concatenate([flow(graph).columns, none])


def reach(graph: AttributionGraph) -> Floats:
    """Influence of every node, (n_nodes,); that of a target is its probability."""
    return np.concatenate([flow(graph).columns, graph.target_probabilities])


def cumulative_influence(graph: AttributionGraph) -> Floats:
    """Running share of influence, nodes sorted from the most influential, (n_nodes,).

    Small means important: keeping the nodes at or under x keeps x of the influence.
    """
    strength = influence(graph)
    order = np.argsort(-strength, kind="stable")
    running = np.cumsum(strength[order], dtype=np.float64)
    result = np.empty_like(strength)
    result[order] = running / max(float(running[-1]), 1e-30)
    return result


def scores(graph: AttributionGraph, pinned: Collection[Feature] | None = None) -> Scores:
    """Replacement and completeness score of a graph.

    Args:
        graph: The graph, normally unpruned.
        pinned: Score the subgraph of these features alone: every other feature counts as error.

    Returns:
        Both scores; NaN where nothing influences the targets.
    """
    n, sources = len(graph.features), graph.blocks.errors.stop
    if pinned is None:
        found, kept = flow(graph), np.arange(n)
    else:
        # What an unpinned feature receives is not traced further: it is where the trail ends.
        inside = set(pinned)
        mask = np.array([f in inside for f in graph.nodes[:n]], dtype=np.bool_)
        kept = np.flatnonzero(mask)
        rows = np.concatenate([kept, np.arange(n, len(graph.weights))])
        order = np.concatenate([kept, np.flatnonzero(~mask), np.arange(n, graph.weights.shape[1])])
        found = walk(
            graph.weights[np.ix_(rows, order)],
            graph.features[kept, 0],
            graph.target_probabilities,
            slice(len(kept), sources),
        )
    through_tokens = float(found.columns[sources:].sum())
    total = through_tokens + float(found.columns[len(kept) : sources].sum())
    if not total:
        return Scores(float("nan"), float("nan"))
    every = float(found.columns.sum()) + float(graph.target_probabilities.sum())
    # Errors and tokens have no inputs, so nothing of theirs comes from errors.
    arrived = np.concatenate([found.columns[: len(kept)], graph.target_probabilities])
    return Scores(through_tokens / total, 1 - float(found.errors @ arrived) / every)
