"""Supernodes' edges, comparison of two graphs, and the graph as networkx knows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis.flow import LEAST_SUM, Floats, flow, influence, reach
from circuit_nb.graph import AttributionGraph, Feature, Node, Supernode, TargetNode, TokenNode

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Comparison:
    """What two graphs share. Features count as the same at the same layer, position and index."""

    shared: tuple[Feature, ...]
    only_first: tuple[Feature, ...]
    only_second: tuple[Feature, ...]
    largest_edge_difference: float
    """Over edges whose both ends are in both graphs, relative to the largest edge of either."""


def supernode_weights(
    graph: AttributionGraph, groups: Sequence[Supernode | Node]
) -> npt.NDArray[np.float64]:
    """Edges between groups of nodes, (groups, groups), `[target, source]`.

    Each entry is the share of the target group's input, weighted by its members' influence, that
    comes directly from the source group; its sign is the sign of the summed weights.
    """
    members = [
        [graph.number(n) for n in (g.features if isinstance(g, Supernode) else (g,)) if n in graph]
        for g in groups
    ]
    row_of = {number: row for row, number in enumerate(graph.rows.tolist())}
    per, strength = 1 / np.maximum(flow(graph).sums, LEAST_SUM), reach(graph)
    result = np.zeros((len(groups), len(groups)))
    for t, into in enumerate(members):
        rows = [row_of[n] for n in into if n in row_of]
        if not rows:
            continue
        importance = np.maximum(strength[graph.rows[rows]], 1e-12)
        importance = importance / importance.sum()
        for s, out in enumerate(members):
            columns = [n for n in out if n < graph.weights.shape[1]]
            if s != t and columns:
                block = graph.weights[np.ix_(rows, columns)]
                share = float((importance * per[rows]) @ np.abs(block).sum(axis=1))
                summed = float((importance[:, None] * block).sum())
                result[t, s] = share * np.sign(summed)
    return result


def compare(first: AttributionGraph, second: AttributionGraph) -> Comparison:
    """What two graphs of the same prompt share, and how far their common edges differ."""
    ours = set(first.nodes[: len(first.features)])
    theirs = set(second.nodes[: len(second.features)])
    pairs = common_nodes(first, second)
    picked = [edges_between(g, nodes) for g, nodes in zip((first, second), pairs, strict=True)]
    largest = max((float(np.abs(p).max(initial=0)) for p in picked), default=0.0)
    gap = float(np.abs(picked[0] - picked[1]).max(initial=0))
    return Comparison(
        shared=_sorted(ours & theirs),
        only_first=_sorted(ours - theirs),
        only_second=_sorted(theirs - ours),
        largest_edge_difference=gap / largest if largest else 0.0,
    )


def common_nodes(
    first: AttributionGraph, second: AttributionGraph
) -> tuple[list[Node], list[Node]]:
    """The nodes that two graphs of the same prompt share, as each of them numbers them.

    Targets are the same if they stand for the same token or direction, whatever their rank.
    """
    theirs = zip(second.targets, second.target_ids.tolist(), strict=True)
    rank = {target: i for i, target in enumerate(theirs)}
    here: list[Node] = []
    there: list[Node] = []
    for node in first.nodes:
        other: Node | None = node
        if isinstance(node, TargetNode):
            i = node.index
            found = rank.get((first.targets[i], int(first.target_ids[i])))
            other = None if found is None else TargetNode(found)
        if other is not None and other in second:
            here.append(node)
            there.append(other)
    return here, there


def _sorted(nodes: Iterable[Node]) -> tuple[Feature, ...]:
    return tuple(sorted(n for n in nodes if isinstance(n, Feature)))


def edges_between(graph: AttributionGraph, nodes: Sequence[Node]) -> Floats:
    """`weights` between the given nodes: rows are features and targets, columns all but targets.

    Raises:
        ValueError: If the graph does not hold a node.
    """
    row_of = {number: row for row, number in enumerate(graph.rows.tolist())}
    numbers = [graph.number(n) for n in nodes]
    rows = [row_of[n] for n in numbers if n in row_of]
    return graph.weights[np.ix_(rows, [n for n in numbers if n < graph.weights.shape[1]])]


def to_networkx(graph: AttributionGraph) -> nx.DiGraph[Node]:
    """The graph as a `networkx.DiGraph` of `Node` objects.

    Nodes carry `kind`, `influence`, and `activation` or `token` where they have one; edges run
    from source to target and carry `weight`. Zero edges are left out.
    """
    import networkx as nx

    result: nx.DiGraph[Node] = nx.DiGraph(prompt=graph.prompt)
    strength = influence(graph)
    for number, node in enumerate(graph.nodes):
        extra: dict[str, object] = {}
        if number < graph.blocks.features.stop:
            extra["activation"] = float(graph.activations[number])
        elif isinstance(node, TokenNode):
            extra["token"] = graph.tokens[node.position]
        result.add_node(node, kind=type(node).__name__, influence=float(strength[number]), **extra)
    numbers = graph.rows
    for row, column in np.argwhere(graph.weights):
        target, source = graph.nodes[numbers[row]], graph.nodes[column]
        result.add_edge(source, target, weight=float(graph.weights[row, column]))
    return result
