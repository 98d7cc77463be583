"""How the attribution-graph JSON of Anthropic, circuit-tracer and Neuronpedia names nodes."""

from __future__ import annotations

import math
from typing import NamedTuple

from circuit_nb.graph import AttributionGraph, ErrorNode, Feature, Node, TokenNode

FEATURE = "cross layer transcoder"
ERROR = "mlp reconstruction error"
TOKEN = "embedding"
TARGET = "logit"

VIRTUAL_ID = 10**9
"""Each target needs an id of its own: those that are no token, or the same token again, are named
by ids from here up. No vocabulary is as large (`graph_check.MAX_VOCABULARY`)."""


class Ids(NamedTuple):
    """The names of one node in the JSON."""

    feature_type: str
    node_id: str
    feature: int
    layer: str
    position: int
    js_id: str


def pair(layer: int, index: int) -> int:
    """Cantor's pairing of a feature's layer and index: the `feature` field of the JSON."""
    return (layer + index) * (layer + index + 1) // 2 + index


def unpair(feature: int) -> tuple[int, int]:
    """The layer and index that `pair` joined, exact for integers of any size."""
    diagonal = (math.isqrt(8 * feature + 1) - 1) // 2
    index = feature - diagonal * (diagonal + 1) // 2
    return diagonal - index, index


def of(graph: AttributionGraph, node: Node) -> Ids:
    """The names of a node of `graph`."""
    if isinstance(node, Feature):
        layer, position, index = node.layer, node.position, node.index
        return Ids(
            FEATURE,
            f"{layer}_{index}_{position}",
            pair(layer, index),
            str(layer),
            position,
            f"{layer}_{index}-0",
        )
    if isinstance(node, ErrorNode):
        layer, position = node.layer, node.position
        name, js_id = f"0_{layer}_{position}", f"{layer}_{position}-0"
        return Ids(ERROR, name, -1, str(layer), position, js_id)
    if isinstance(node, TokenNode):
        vocab, position = int(graph.token_ids[node.position]), node.position
        return Ids(TOKEN, f"E_{vocab}_{position}", position, "E", position, f"E_{vocab}-{position}")
    vocab, own = int(graph.target_ids[node.index]), VIRTUAL_ID + node.index
    name = own if vocab < 0 or vocab in graph.target_ids[: node.index] else vocab
    layer, position = graph.n_layers + 1, len(graph.tokens) - 1
    return Ids(
        TARGET,
        f"{layer}_{name}_{position}",
        own if vocab < 0 else vocab,
        str(layer),
        position,
        f"L_{name}-{position}",
    )


def feature_index(node_id: str, feature: int, layer: int, position: int) -> int:
    """A feature's index within its layer, from whichever of the file variants names it.

    `node_id` says it outright in every known file. Where it does not, `feature` holds Cantor's
    pairing (circuit-tracer), layer and five digits of index (its files without schema version),
    or the index itself (Anthropic).
    """
    parts = node_id.split("_")
    if len(parts) == 3 and all(p.isascii() and p.isdigit() and len(p) < 19 for p in parts):
        named_layer, index, named_position = map(int, parts)
        if (named_layer, named_position) == (layer, position):
            return index
    if feature >= 0 and unpair(feature)[0] == layer:
        return unpair(feature)[1]
    if divmod(feature, 10**5)[0] == layer > 0:
        return feature % 10**5
    return feature
