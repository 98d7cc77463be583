"""Paths: the strongest chains of edges between two nodes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis.flow import LEAST_SUM, Floats, by_layer, flow
from circuit_nb.graph import AttributionGraph, Node
from circuit_nb.influence import ROWS

Numbers = npt.NDArray[np.int64]


FEW = 12
"""So few largest values are looked for one by one."""


@dataclass(frozen=True)
class Path:
    """A chain of edges from one node to another."""

    nodes: tuple[Node, ...]
    """From source to target."""
    share: float
    """Product of the edges' normalised strengths: the part of the target's input, traced back,
    that comes from the source along this chain."""
    sign: int
    """+1 if the chain raises the target, -1 if it lowers it."""


def paths(
    graph: AttributionGraph,
    source: Node,
    target: Node,
    top_k: int = 5,
    avoid: Collection[Node] = (),
) -> list[Path]:
    """The strongest chains of edges from `source` to `target`, strongest first.

    A chain's strength is the product of its edges' normalised strengths. Found by keeping, for
    every node in ascending layer order, the `top_k` best chains that reach it.

    Args:
        graph: The graph.
        source: Where chains begin.
        target: Where they end, a feature or a target.
        top_k: How many to return at most.
        avoid: Nodes that no chain may pass through.

    Raises:
        ValueError: If the graph does not hold one of the two nodes.
    """
    start, end = graph.number(source), graph.number(target)
    n_sources = graph.weights.shape[1]
    passable = np.ones(n_sources, dtype=np.bool_)
    numbers = [graph.number(n) for n in avoid if n in graph]
    passable[[n for n in numbers if n < n_sources]] = False
    strength, came_by = _best_chains(graph, start, passable, top_k)
    found: list[Path] = []
    for rank in range(top_k if start != end else 0):
        if strength[end, rank] > 0:
            chain = _trace(came_by, end, rank)
            nodes = tuple(graph.nodes[n] for n in chain)
            found.append(Path(nodes, float(strength[end, rank]), _sign(graph, chain)))
    return found


def _best_chains(
    graph: AttributionGraph, start: int, passable: npt.NDArray[np.bool_], top_k: int
) -> tuple[Floats, Numbers]:
    """The best chains that reach each node, and the (node, chain) each of them came by.

    Returns:
        Strengths (n_nodes, top_k), descending, and where from, (n_nodes, top_k, 2).
    """
    strength = np.zeros((graph.n_nodes, top_k), dtype=np.float32)
    came_by = np.full((graph.n_nodes, top_k, 2), -1)
    strength[start, 0] = 1
    per = 1 / np.maximum(flow(graph).sums, LEAST_SUM)
    for rows in _upwards(graph):
        # A node's best chains come by those nodes whose own best chain brings most.
        reached = np.flatnonzero(strength[: len(passable), 0] * passable)
        shares = np.abs(graph.weights[rows][:, reached]) * per[rows, None]
        by = _largest((shares * strength[reached, 0]).astype(np.float32, copy=False), top_k)
        brought = np.take_along_axis(shares, by, axis=1)[:, :, None] * strength[reached[by]]
        brought = brought.reshape(len(by), -1)
        best = np.argsort(-brought, axis=1, kind="stable")[:, :top_k]
        numbers = graph.rows[rows]
        places = np.ix_(numbers, np.arange(best.shape[1]))
        strength[places] = np.take_along_axis(brought, best, axis=1)
        which, chain = np.divmod(best, top_k)
        came_by[places[0], places[1], 0] = reached[np.take_along_axis(by, which, axis=1)]
        came_by[places[0], places[1], 1] = chain
        strength[start], came_by[start] = np.eye(1, top_k), -1
    return strength, came_by


def _upwards(graph: AttributionGraph) -> Iterator[slice]:
    """Rows of one layer each, the targets last, at most `ROWS` at a time."""
    n = len(graph.features)
    for first, end in [*by_layer(graph.features[:, 0]), (n, len(graph.weights))]:
        for begin in range(first, end, ROWS):
            yield slice(begin, min(begin + ROWS, end))


def _largest(values: Floats, most: int) -> Numbers:
    """Columns of the largest values of each row, ascending, (rows, at most `most`).

    No value is negative.
    """
    n = values.shape[1]
    if n <= most:
        return np.broadcast_to(np.arange(n), values.shape)
    if most <= FEW:  # so often the largest of what is left: many times faster than partitioning
        left, every = values.copy(), np.arange(len(values))
        found = np.empty((len(values), most), dtype=np.int64)
        for k in range(most):
            found[:, k] = left.argmax(axis=1)
            left[every, found[:, k]] = -1
        return np.sort(found, axis=1)
    return np.sort(np.argpartition(values, n - most, axis=1)[:, n - most :], axis=1)


def _trace(came_by: Numbers, end: int, rank: int) -> list[int]:
    """Node numbers of one chain, from its source to `end`."""
    chain = [end]
    node, rank = came_by[end, rank]
    while node >= 0:
        chain.append(int(node))
        node, rank = came_by[node, rank]
    return chain[::-1]


def _sign(graph: AttributionGraph, chain: Sequence[int]) -> int:
    nodes = [graph.nodes[n] for n in chain]
    edges = [graph.weight(a, b) for a, b in itertools.pairwise(nodes)]
    return int(np.prod(np.sign(edges)))
