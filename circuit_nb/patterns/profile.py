"""What patterns need to know of one graph: small enough that ten thousand fit into memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis import influence, prune_masks, scores
from circuit_nb.analysis.flow import LEAST_SUM, flow, reach
from circuit_nb.graph import AttributionGraph

NODE_MASS, EDGE_MASS = 0.8, 0.98
"""A graph uses the features and edges that pruning at these keeps, the field's usual ones."""
MOST_FEATURES, MOST_EDGES = 1024, 512
"""So many at most are kept of a graph, the strongest."""

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Profile:
    """One graph in short. Influence is a share of what the targets get."""

    prompt: str
    tokens: tuple[str, ...]
    answer: str
    """The target with the most weight."""
    probability: float
    """Its weight."""
    replacement: float
    """Replacement score."""
    completeness: float
    """Completeness score."""
    n_features: int
    n_active: int
    n_errors: int
    error_share: float
    """Share of all nodes' influence that is errors'."""
    features: Ints
    """Features used, (n, 3), rows (layer, position, index), ascending."""
    influence: Floats
    """Influence of each, (n,)."""
    edges: Ints
    """Edges used, (m, 2), rows (source, target). Numbers below n are features, from n on the
    prompt's tokens, and -1 is the answer."""
    flow: Floats
    """Influence that passes along each, (m,); negative where the edge's weight is."""
    words: Floats
    """Influence of each token, (positions,)."""


def profile(graph: AttributionGraph) -> Profile:
    """The profile of a graph."""
    n, blocks = len(graph.features), graph.blocks
    total = max(float(graph.target_probabilities.sum()), 1e-30)
    strength = influence(graph) / total
    nodes, kept = prune_masks(graph, NODE_MASS, EDGE_MASS)
    used = np.flatnonzero(nodes[:n] & (strength[:n] > 0))
    used = np.sort(used[np.argsort(-strength[used], kind="stable")[:MOST_FEATURES]])
    found = scores(graph)
    first = int(graph.target_probabilities.argmax()) if len(graph.targets) else 0
    edges, passed = _edges(graph, used, kept, n + first, total)
    every = max(float(strength.sum()), 1e-30)
    return Profile(
        prompt=graph.prompt,
        tokens=graph.tokens,
        answer=graph.targets[first] if graph.targets else "",
        probability=float(graph.target_probabilities[first]) if graph.targets else float("nan"),
        replacement=found.replacement,
        completeness=found.completeness,
        n_features=n,
        n_active=graph.n_active,
        n_errors=len(graph.errors),
        error_share=float(strength[blocks.errors].sum()) / every,
        features=graph.features[used].astype(np.int32),
        influence=strength[used].astype(np.float32),
        edges=edges,
        flow=passed,
        words=strength[blocks.tokens].astype(np.float32),
    )


def _edges(
    graph: AttributionGraph,
    used: npt.NDArray[np.int64],
    kept: npt.NDArray[np.bool_],
    answer: int,
    total: float,
) -> tuple[Ints, Floats]:
    """Edges kept among features used, tokens and the answer, and what passes along them.

    Args:
        graph: The graph.
        used: Numbers of its features, ascending.
        kept: Edges that pruning keeps, the shape of `weights`.
        answer: The answer's row.
        total: What the targets begin with.
    """
    blocks = graph.blocks
    if not graph.targets:
        return np.zeros((0, 2), np.int32), np.zeros(0, np.float32)
    rows = np.append(used, answer)
    columns = np.concatenate([used, np.arange(blocks.tokens.start, blocks.tokens.stop)])
    place = np.ix_(rows, columns)
    weights = np.where(kept[place], graph.weights[place], 0)
    arrived = reach(graph)[graph.rows[rows]] / np.maximum(flow(graph).sums[rows], LEAST_SUM)
    strength = weights * (arrived / total)[:, None]
    flat = strength.ravel()
    there = np.flatnonzero(flat)  # a few of all
    order = there[np.argsort(-np.abs(flat[there]), kind="stable")[:MOST_EDGES]]
    target, source = np.divmod(order, len(columns))
    target = np.where(target == len(used), -1, target)
    return np.stack([source, target], axis=1).astype(np.int32), flat[order].astype(np.float32)
