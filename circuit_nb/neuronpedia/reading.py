"""Attribution-graph JSON as an `AttributionGraph`. Files come from strangers: all is checked.

Three variants are read alike: circuit-tracer's, Neuronpedia's and Anthropic's, with or without a
schema version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from circuit_nb.files import shown
from circuit_nb.graph import AttributionGraph, ErrorNode, Feature, Node, TargetNode, TokenNode
from circuit_nb.graph_check import MAX_INDEX, MAX_LAYERS
from circuit_nb.neuronpedia import ids
from circuit_nb.neuronpedia.annotations import Annotations
from circuit_nb.neuronpedia.edges import Entry, matrix
from circuit_nb.neuronpedia.writing import EXTENSION
from circuit_nb.strict_json import (
    MAX_BYTES,
    MAX_INTEGER,
    Link,
    Reader,
    parse,
    plain,
)

_KINDS = (Feature, ErrorNode, TokenNode, TargetNode)
_OUTPUT = re.compile(r'(?:\[.*?\] )?Output "(.*)" \(p=[0-9.eE+-]+\)', re.DOTALL)
"""An output's label: its text, after the name of its group where it is in one."""


class GraphFile(NamedTuple):
    """A graph and what its reader added to it."""

    graph: AttributionGraph
    annotations: Annotations


def read_file(path: str | Path) -> GraphFile:
    """Read a graph's JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is too large, or no such graph.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No graph file at {path}.")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{shown(path)} is over {MAX_BYTES // 2**20} MB; no larger graph is read.")
    return from_bytes(path.read_bytes(), shown(path))


def from_bytes(data: bytes, name: str = "The graph") -> GraphFile:
    """Read a graph from the bytes of its JSON; `name` is what errors call it.

    Raises:
        ValueError: If it is too large, or no such graph.
    """
    return from_json(parse(data, name), name)


def from_json(content: Any, name: str = "The graph") -> GraphFile:
    """Read a graph from parsed JSON; `name` is what errors call it.

    Raises:
        ValueError: If it is no such graph; the message says where.
    """
    top = Reader(content, name)
    for key in ("metadata", "nodes", "links"):
        if top.get(key) is None:
            top.fail(f"has no {key!r}: it is no attribution graph")
    metadata = top.child("metadata")
    tokens = tuple(metadata.texts("prompt_tokens"))
    entries = _entries(top, len(tokens))
    fields: dict[str, Any] = {
        **_arrays(entries, tokens),
        "weights": matrix(entries, top, len(tokens)),
        **_described(entries, metadata),
    }
    try:
        graph = AttributionGraph(**fields)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return GraphFile(graph, _annotations(entries, top))


def _entries(top: Reader, n_positions: int) -> list[Entry]:
    """The nodes in the graph's order: features, errors, tokens, targets."""
    found: list[Entry] = []
    for number, item in enumerate(top.items("nodes")):
        found.append(_entry(Reader(item, f"{top.name}: nodes[{number}]"), n_positions, number))
    found.sort(key=lambda entry: (_KINDS.index(type(entry.node)), entry.node))
    n_targets = sum(isinstance(entry.node, TargetNode) for entry in found)
    for rank, entry in enumerate(found[len(found) - n_targets :]):
        found[len(found) - n_targets + rank] = entry._replace(node=TargetNode(rank))
    _refuse_duplicates(found, top)
    return found


def _refuse_duplicates(entries: list[Entry], top: Reader) -> None:
    """No node twice, and no id twice but for a feature and an error."""
    nodes: set[Node] = set()
    names: set[tuple[bool, str]] = set()
    for entry in entries:
        name = (isinstance(entry.node, ErrorNode), entry.node_id)
        if entry.node in nodes or name in names:
            top.fail(f"holds the node {entry.node_id[:80]!r} twice ({entry.node})")
        nodes.add(entry.node)
        names.add(name)


def _entry(item: Reader, n_positions: int, number: int) -> Entry:
    kind, node_id = item.text("feature_type"), item.text("node_id")
    position = item.integer("ctx_idx", below=n_positions)
    feature = item.integer("feature", -1, least=-1, below=MAX_INTEGER)
    layer, vocab, value = item.layer(), -1, 0.0
    node: Node
    if kind == ids.TOKEN:
        node, vocab = TokenNode(position), _vocab(node_id)
    elif kind == ids.TARGET:
        vocab = feature if feature < ids.VIRTUAL_ID else -1
        node, value = TargetNode(number), item.number("token_prob")
    elif layer < 0:
        item.fail(f"is of type {kind[:50]!r} but has layer {str(item.get('layer'))[:50]!r}")
    elif kind == ids.ERROR:
        node = ErrorNode(layer, position)
    elif kind.endswith("transcoder"):
        index = ids.feature_index(node_id, feature, layer, position)
        if not 0 <= index < MAX_INDEX:
            item.fail(f"names no feature: node_id {node_id[:50]!r}, feature {feature}")
        node, value = Feature(layer, position, index), item.number("activation")
    else:
        known = ", ".join((ids.FEATURE, ids.ERROR, ids.TOKEN, ids.TARGET))
        item.fail(f"is of type {kind[:50]!r}; known are {known}")
    return Entry(node, node_id, number, layer, vocab, item.text("clerp", ""), value)


def _vocab(node_id: str) -> int:
    match = re.fullmatch(r"E_([0-9]{1,15})_[0-9]+", node_id)
    return int(match[1]) if match else -1


def _arrays(entries: list[Entry], tokens: tuple[str, ...]) -> dict[str, Any]:
    """All the graph's per-node data."""
    token_ids = np.full(len(tokens), -1, dtype=np.int64)
    for entry in entries:
        if isinstance(entry.node, TokenNode):
            token_ids[entry.node.position] = entry.vocab
    features = [(e, e.node) for e in entries if isinstance(e.node, Feature)]
    errors = [e.node for e in entries if isinstance(e.node, ErrorNode)]
    targets = [e for e in entries if isinstance(e.node, TargetNode)]
    outputs = [_OUTPUT.fullmatch(e.label) for e in targets]
    rows = [(f.layer, f.position, f.index) for _, f in features]
    return {
        "tokens": tokens,
        "token_ids": token_ids,
        "features": np.array(rows, dtype=np.int64).reshape(-1, 3),
        "activations": np.array([e.value for e, _ in features], dtype=np.float32),
        "errors": np.array([(e.layer, e.position) for e in errors], dtype=np.int64).reshape(-1, 2),
        "targets": tuple(
            m[1] if m else e.label or str(e.vocab) for m, e in zip(outputs, targets, strict=True)
        ),
        "target_ids": np.array([e.vocab for e in targets], dtype=np.int64),
        "target_probabilities": np.array([e.value for e in targets], dtype=np.float32),
    }


def _described(entries: list[Entry], metadata: Reader) -> dict[str, Any]:
    """The prompt, the model's size, and where the graph comes from."""
    ours = metadata.child(EXTENSION, optional=True)
    inner = [e.layer + 1 for e in entries if isinstance(e.node, Feature | ErrorNode)]
    above = [e.layer - 1 for e in entries if isinstance(e.node, TargetNode)]
    n_features = sum(isinstance(e.node, Feature) for e in entries)
    if isinstance(ours.get("provenance"), Mapping | Link):
        provenance = plain(ours.get("provenance"))
    else:
        names = ("scan", "slug", "info", "generation_settings", "pruning_settings")
        provenance = {name: plain(metadata.get(name)) for name in names if metadata.get(name)}
        details = metadata.child("feature_details", optional=True)
        if details.get("neuronpedia_source_set"):
            provenance["source_set"] = details.text("neuronpedia_source_set")
    return {
        "prompt": metadata.text("prompt", ""),
        "n_layers": ours.integer(
            "n_layers", max([1, *inner, *above]), least=max([1, *inner]), below=MAX_LAYERS + 1
        ),
        "n_active": ours.integer("n_active", n_features, least=n_features),
        "provenance": provenance,
    }


def _annotations(entries: list[Entry], top: Reader) -> Annotations:
    """Labels, pins and supernodes; those of nodes that the file does not hold are left out."""
    parameters = top.child("qParams", optional=True)
    # Of two nodes that share an id, the feature is meant: it comes first.
    known: dict[str, Node] = {}
    for entry in entries:
        known.setdefault(entry.node_id, entry.node)
    named = (e for e in entries if e.label and not isinstance(e.node, TargetNode))
    labels: dict[Node, str] = {e.node: e.label for e in named}
    for pair in _lists(parameters, "clerps"):
        if len(pair) == 2 and pair[0] in known:
            labels[known[pair[0]]] = pair[1]
    groups = [
        (row[0], tuple(known[i] for i in row[1:] if i in known))
        for row in _lists(parameters, "supernodes")
        if row
    ]
    threshold = parameters.number("pruningThreshold", -1)
    if threshold < 0:
        threshold = top.child("metadata").number("node_threshold", -1)
    return Annotations(
        labels=labels,
        pins=tuple(known[i] for i in parameters.texts("pinnedIds") if i in known),
        supernodes=tuple((name, nodes) for name, nodes in groups if nodes),
        selected=known.get(parameters.text("clickedId", "")),
        node_threshold=threshold if 0 <= threshold <= 1 else None,
    )


def _lists(parameters: Reader, key: str) -> list[list[str]]:
    """An array of arrays of texts; a missing one is empty."""
    rows = parameters.items(key) if parameters.get(key) is not None else []
    return [list(Reader({key: row}, parameters.name).texts(key)) for row in rows]
