"""Pure functions on attribution graphs: influence, pruning, scores, paths, comparison.

Influence, pruning and both scores follow Ameisen et al. 2025, *Circuit Tracing*, "Graph pruning"
and "Evaluating attribution graphs".
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from circuit_nb.graph import AttributionGraph, Feature, Node, Supernode, TargetNode, TokenNode
from circuit_nb.influence import normalized as normalized
from circuit_nb.influence import propagate

if TYPE_CHECKING:
    import networkx as nx

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class Scores(NamedTuple):
    """How much of the output the graph's features explain, each from 0 to 1."""

    replacement: float
    """Share of the influence on the targets that starts at tokens rather than at errors."""
    completeness: float
    """Influence-weighted share of each node's input that does not come from errors."""


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


@dataclass(frozen=True)
class Comparison:
    """What two graphs share. Features count as the same at the same layer, position and index."""

    shared: tuple[Feature, ...]
    only_first: tuple[Feature, ...]
    only_second: tuple[Feature, ...]
    largest_edge_difference: float
    """Over edges whose both ends are in both graphs, relative to the largest edge of either."""


def influence(graph: AttributionGraph) -> Floats:
    """Influence of every node on the targets, (n_nodes,), in node order; targets get 0.

    The sum over k >= 1 of p N^k, N being the row-normalised strengths and p the targets'
    probabilities (Ameisen et al. 2025, "Graph pruning").
    """
    return _pad(graph, _propagate(graph, normalized(graph.weights)))


def _propagate(graph: AttributionGraph, shares: Floats) -> Floats:
    """Sum over k of p N^k for the columns of `weights`, (n_features + n_errors + positions,)."""
    return propagate(shares, graph.target_probabilities, graph.n_layers)


def _pad(graph: AttributionGraph, columns: Floats) -> Floats:
    return np.concatenate([columns, np.zeros(len(graph.targets), dtype=np.float32)])


def cumulative_influence(graph: AttributionGraph) -> Floats:
    """Running share of influence, nodes sorted from the most influential, (n_nodes,).

    Small means important: keeping the nodes at or under x keeps x of the influence.
    """
    scores = influence(graph)
    order = np.argsort(-scores, kind="stable")
    running = np.cumsum(scores[order], dtype=np.float64)
    result = np.empty_like(scores)
    result[order] = running / max(float(running[-1]), 1e-30)
    return result


def _holding(scores: Floats, mass: float) -> Mask:
    """The largest scores that together hold `mass` of the sum; ties with the last are kept."""
    ordered = np.sort(scores, axis=None)[::-1]
    running = np.cumsum(ordered, dtype=np.float64)
    if running.size == 0 or running[-1] == 0:
        return np.ones(scores.shape, dtype=np.bool_)
    last = min(int(np.searchsorted(running / running[-1], mass)), running.size - 1)
    return scores >= ordered[last]


def prune(
    graph: AttributionGraph, node_mass: float = 0.8, edge_mass: float = 0.98
) -> AttributionGraph:
    """Keep the nodes, then the edges, that carry most of the influence on the targets.

    Afterwards features without inputs and features or errors without outputs are dropped until
    none is left. Tokens and targets always stay (Ameisen et al. 2025, "Graph pruning").

    Args:
        graph: The graph to prune; it is not changed.
        node_mass: Share of the nodes' influence to keep, 0 to 1.
        edge_mass: Share of the remaining edges' influence to keep, 0 to 1.

    Raises:
        ValueError: If a mass is outside 0 to 1.
    """
    for name, mass in (("node_mass", node_mass), ("edge_mass", edge_mass)):
        if not 0 <= mass <= 1:
            raise ValueError(f"{name} is {mass}; give a share between 0 and 1.")
    nodes, edges = prune_masks(graph, node_mass, edge_mass)
    pruned = {"node_mass": float(node_mass), "edge_mass": float(edge_mass)}
    return graph.part(nodes, edges, {"pruned": pruned})


def prune_masks(graph: AttributionGraph, node_mass: float, edge_mass: float) -> tuple[Mask, Mask]:
    """What `prune` keeps: nodes (n_nodes,) in node order, and edges, the shape of `weights`."""
    nodes = _holding(influence(graph), node_mass)
    nodes[graph.blocks.tokens.start :] = True
    columns, rows = nodes[: graph.blocks.tokens.stop], nodes[graph.rows]
    shares = normalized(graph.weights * rows[:, None] * columns)
    reach = np.concatenate(
        [_propagate(graph, shares)[graph.blocks.features], graph.target_probabilities]
    )
    edges = _holding(shares * reach[:, None], edge_mass)
    return _drop_loose_ends(graph, nodes, edges)


def _drop_loose_ends(graph: AttributionGraph, nodes: Mask, edges: Mask) -> tuple[Mask, Mask]:
    """Repeatedly drop features without inputs, and features and errors without outputs."""
    features, sources = graph.blocks.features, slice(0, graph.blocks.errors.stop)
    n_kept = -1
    while n_kept != (n_kept := int(nodes.sum())):
        nodes[sources] &= edges[:, sources].any(axis=0)
        nodes[features] &= edges[features].any(axis=1)
        edges &= nodes[graph.rows][:, None] & nodes[: graph.blocks.tokens.stop]
    return nodes, edges


def scores(graph: AttributionGraph, pinned: Collection[Feature] | None = None) -> Scores:
    """Replacement and completeness score of a graph.

    Args:
        graph: The graph, normally unpruned.
        pinned: Score the subgraph of these features alone: every other feature counts as error.

    Returns:
        Both scores; NaN where nothing influences the targets.
    """
    shares = normalized(graph.weights)
    lost = np.zeros(shares.shape[1], dtype=np.bool_)
    lost[graph.blocks.errors] = True
    if pinned is not None:
        kept = set(pinned)
        lost[graph.blocks.features] = [f not in kept for f in graph.nodes[: len(graph.features)]]
        # What an unpinned feature receives is not traced further: it is where the trail ends.
        shares[: len(graph.features)][lost[graph.blocks.features]] = 0
    columns = _propagate(graph, shares)
    through_tokens = float(columns[graph.blocks.tokens].sum())
    through_errors = float(columns[lost].sum())
    total = through_tokens + through_errors
    reach = _pad(graph, columns)
    reach[graph.blocks.targets] = graph.target_probabilities
    # Errors and tokens have no inputs, so nothing of theirs comes from errors.
    explained = np.ones(graph.n_nodes, dtype=np.float32)
    explained[graph.rows] -= shares[:, lost].sum(axis=1)
    return Scores(
        replacement=through_tokens / total if total else float("nan"),
        completeness=float((explained * reach).sum() / reach.sum()) if total else float("nan"),
    )


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
    shares = normalized(graph.weights)
    shares[:, [graph.number(n) for n in avoid if n in graph and not _is_target(graph, n)]] = 0
    n_sources = shares.shape[1]
    # The top_k best chains that reach each node, and the (node, chain) each of them came by.
    strength = np.zeros((graph.n_nodes, top_k), dtype=np.float32)
    came_by = np.full((graph.n_nodes, top_k, 2), -1)
    strength[start, 0] = 1
    for row, number in enumerate(graph.rows.tolist()):
        if number == start:
            continue
        reached = (shares[row][:, None] * strength[:n_sources]).ravel()
        best = np.argsort(-reached, kind="stable")[:top_k]
        strength[number, : len(best)] = reached[best]
        came_by[number, : len(best)] = np.stack(np.divmod(best, top_k), axis=1)
    found: list[Path] = []
    for rank in range(top_k if start != end else 0):
        if strength[end, rank] > 0:
            chain = _trace(came_by, end, rank)
            nodes = tuple(graph.nodes[n] for n in chain)
            found.append(Path(nodes, float(strength[end, rank]), _sign(graph, chain)))
    return found


def _trace(came_by: npt.NDArray[np.int64], end: int, rank: int) -> list[int]:
    """Node numbers of one chain, from its source to `end`."""
    chain = [end]
    node, rank = came_by[end, rank]
    while node >= 0:
        chain.append(int(node))
        node, rank = came_by[node, rank]
    return chain[::-1]


def _is_target(graph: AttributionGraph, node: Node) -> bool:
    return graph.number(node) >= graph.blocks.targets.start


def _sign(graph: AttributionGraph, chain: Sequence[int]) -> int:
    nodes = [graph.nodes[n] for n in chain]
    edges = [graph.weight(a, b) for a, b in itertools.pairwise(nodes)]
    return int(np.prod(np.sign(edges)))


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
    shares, reach = normalized(graph.weights), influence(graph)
    reach[graph.blocks.targets] = graph.target_probabilities
    result = np.zeros((len(groups), len(groups)))
    for t, into in enumerate(members):
        rows = [row_of[n] for n in into if n in row_of]
        if not rows:
            continue
        importance = np.maximum(reach[graph.rows[rows]], 1e-12)
        importance = importance / importance.sum()
        for s, out in enumerate(members):
            columns = [n for n in out if n < graph.weights.shape[1]]
            if s != t and columns:
                block = np.ix_(rows, columns)
                strength = float((importance[:, None] * shares[block]).sum())
                summed = float((importance[:, None] * graph.weights[block]).sum())
                result[t, s] = strength * np.sign(summed)
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
