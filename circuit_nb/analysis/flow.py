"""Influence: how much of the targets' input passes through every node, and the two scores.

Edges climb layers, so one walk from the targets down, a block of rows at a time, finds the sum
over all paths: whatever reaches a feature has arrived before its own row is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from circuit_nb.graph import AttributionGraph, Feature

Floats: TypeAlias = "npt.NDArray[np.float32]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"

ROWS = 128
"""Rows read at a time: few enough that they stay in the processor's cache."""
LEAST_SUM = 1e-10
"""What a row's strengths are divided by at least."""


class Scores(NamedTuple):
    """How much of the output the graph's features explain, each from 0 to 1."""

    replacement: float
    """Share of the influence on the targets that starts at tokens rather than at errors."""
    completeness: float
    """Influence-weighted share of each node's input that does not come from errors."""


@dataclass(frozen=True)
class Flow:
    """What one walk from the targets to the tokens finds."""

    sums: Floats
    """Sum of the strengths of each row of `weights`, (n_features + n_targets,)."""
    columns: Floats
    """Influence of what each column stands for, (n_features + n_errors + positions,)."""
    errors: Floats
    """Share of each row's input that comes from errors, (n_features + n_targets,)."""


def normalized(weights: Floats) -> Floats:
    """Rows of |weights| scaled to sum to one (all-zero rows stay zero), same shape."""
    strength = np.abs(weights)
    strength /= np.maximum(strength.sum(axis=1, keepdims=True), LEAST_SUM)
    return strength


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


def walk(
    weights: Floats, layers: npt.NDArray[np.int64], start: Floats, errors: slice = slice(0, 0)
) -> Flow:
    """Spread what the targets have over the columns, along the strengths of all paths.

    Args:
        weights: (features + targets, columns), the features' columns first.
        layers: Layer of each feature, ascending, (features,).
        start: What each target begins with, (targets,).
        errors: Columns of error nodes.
    """
    n = len(layers)
    sums, lost = (np.zeros(len(weights), dtype=np.float32) for _ in range(2))
    columns = np.zeros(weights.shape[1], dtype=np.float32)
    for rows, below in _from_above(layers, len(weights)):
        strength = np.abs(weights[rows])
        if strength[:, below:n].any():  # an edge that does not climb: no single walk will do
            return _walk_again(weights, layers, start, errors)
        sums[rows] = strength.sum(axis=1)
        per = 1 / np.maximum(sums[rows], LEAST_SUM)
        lost[rows] = strength[:, errors].sum(axis=1) * per
        arrived = columns[rows] if rows.start < n else start[rows.start - n : rows.stop - n]
        columns += (arrived * per) @ strength
    return Flow(sums, columns, lost)


def by_layer(layers: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where each layer's features begin and end, the lowest first; `layers` is ascending."""
    firsts = np.flatnonzero(np.diff(layers, prepend=-1)).tolist()
    return list(itertools.pairwise([*firsts, len(layers)]))


def _from_above(layers: npt.NDArray[np.int64], n_rows: int) -> Iterator[tuple[slice, int]]:
    """Blocks of rows from the targets down, and how many features lie below their layer."""
    for first, end in [(len(layers), n_rows), *reversed(by_layer(layers))]:
        for begin in range(first, end, ROWS):
            yield slice(begin, min(begin + ROWS, end)), first


def _walk_again(
    weights: Floats, layers: npt.NDArray[np.int64], start: Floats, errors: slice
) -> Flow:
    """The same by as many steps as there are layers, and one, whatever the edges do."""
    shares, n = normalized(weights), len(layers)
    arrived = np.concatenate([np.zeros(n, dtype=np.float32), start])
    columns = np.zeros(weights.shape[1], dtype=np.float32)
    for _ in range(int(layers.max(initial=-1)) + 2):
        step = arrived @ shares
        columns += step
        arrived = np.concatenate([step[:n], np.zeros_like(start)])
    return Flow(np.abs(weights).sum(axis=1), columns, shares[:, errors].sum(axis=1))


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
