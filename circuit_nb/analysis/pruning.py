"""Pruning: the nodes, then the edges, that carry most of the influence on the targets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis.flow import LEAST_SUM, Floats, Mask, influence, walk
from circuit_nb.graph import AttributionGraph

Numbers = npt.NDArray[np.int64]
_FEW = 2**14
"""So few values are sorted as soon as they are counted."""


class _Kept(NamedTuple):
    """What pruning keeps. Where it keeps little, little is looked at."""

    nodes: Mask
    """(n_nodes,) in node order."""
    rows: Numbers
    """Rows of `weights` looked at, ascending."""
    columns: Numbers
    """Columns of `weights` looked at, ascending."""
    edges: Mask
    """Edges kept among them, (rows, columns); all others go."""


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
    settings = {"node_mass": float(node_mass), "edge_mass": float(edge_mass)}
    return _restrict(graph, _keep(graph, node_mass, edge_mass), settings)


def prune_masks(graph: AttributionGraph, node_mass: float, edge_mass: float) -> tuple[Mask, Mask]:
    """What `prune` keeps: nodes (n_nodes,) in node order, and edges, the shape of `weights`."""
    kept = _keep(graph, node_mass, edge_mass)
    edges = np.zeros(graph.weights.shape, dtype=np.bool_)
    edges[np.ix_(kept.rows, kept.columns)] = kept.edges
    return kept.nodes, edges


def _keep(graph: AttributionGraph, node_mass: float, edge_mass: float) -> _Kept:
    nodes = holding(influence(graph), node_mass)
    nodes[graph.blocks.tokens.start :] = True
    rows = np.flatnonzero(nodes[graph.rows])
    columns = np.flatnonzero(nodes[: graph.blocks.tokens.stop])
    flow = _edge_flow(graph, graph.weights[np.ix_(rows, columns)], nodes)
    edges = holding(flow, edge_mass)
    return _Kept(_drop_loose_ends(graph, nodes, rows, columns, edges), rows, columns, edges)


def _edge_flow(graph: AttributionGraph, weights: Floats, nodes: Mask) -> Floats:
    """Influence through every edge of the graph that is left when other nodes are taken out."""
    layers = graph.features[nodes[graph.blocks.features], 0]
    found = walk(weights, layers, graph.target_probabilities)
    reach = np.concatenate([found.columns[: len(layers)], graph.target_probabilities])
    strength = np.abs(weights)
    strength *= (reach / np.maximum(found.sums, LEAST_SUM))[:, None]
    return strength


def holding(strength: Floats, mass: float) -> Mask:
    """The largest strengths that together hold `mass` of the sum; ties with the last are kept.

    All of them where the sum is 0.
    """
    positive = strength[strength > 0]
    if not positive.size:
        return np.ones(strength.shape, dtype=np.bool_)
    return strength >= _last_of(positive, mass)


def _last_of(positive: Floats, mass: float) -> np.float32:
    """The smallest of the largest values that together hold `mass` of the sum.

    Sorting millions of values to find one takes long. Positive floats are ordered as the integers
    of the same bits, so the upper 16 bits sort them into bins, and one bin is left to be sorted.
    """
    if positive.size < _FEW:
        inside = np.sort(positive)[::-1]
        running = np.cumsum(inside, dtype=np.float64)
        wanted = mass * running[-1]
    else:
        bins = positive.view(np.uint32) >> np.uint32(16)
        held = np.bincount(bins, weights=positive)
        above = np.cumsum(held[::-1])[::-1]
        wanted = mass * above[0]
        # The last bin that is reached before enough is held.
        found = max(int(np.searchsorted(-above, -wanted, side="right")) - 1, 0)
        inside = np.sort(positive[bins == found])[::-1]
        running = np.cumsum(inside, dtype=np.float64) + (above[found] - held[found])
    return inside[min(int(np.searchsorted(running, wanted)), len(inside) - 1)]


def _drop_loose_ends(
    graph: AttributionGraph, nodes: Mask, rows: Numbers, columns: Numbers, edges: Mask
) -> Mask:
    """Repeatedly drop features without inputs, and features and errors without outputs.

    `nodes` and `edges` are changed.
    """
    features = nodes[graph.blocks.features]
    n_features = int(features.sum())
    n_sources = int(nodes[: graph.blocks.errors.stop].sum())
    left = np.ones(len(columns), dtype=np.bool_)
    n_left = -1
    while n_left != (n_left := int(left.sum())):
        left[:n_sources] &= edges[:, :n_sources].any(axis=0)
        left[:n_features] &= edges[:n_features].any(axis=1)
        edges[:, ~left] = False
        edges[:n_features][~left[:n_features]] = False
    nodes[columns] = left
    return nodes


def _restrict(graph: AttributionGraph, kept: _Kept, settings: dict[str, Any]) -> AttributionGraph:
    features, errors = kept.nodes[graph.blocks.features], kept.nodes[graph.blocks.errors]
    rows = kept.nodes[graph.rows[kept.rows]]
    columns = kept.nodes[kept.columns]
    places = np.ix_(kept.rows[rows], kept.columns[columns])
    edges = kept.edges[np.ix_(rows, columns)]
    return replace(
        graph,
        features=graph.features[features],
        activations=graph.activations[features],
        errors=graph.errors[errors],
        weights=np.where(edges, graph.weights[places], np.float32(0)),
        provenance={**graph.provenance, "pruned": settings},
    )
