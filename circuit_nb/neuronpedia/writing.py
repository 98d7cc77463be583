"""An attribution graph as the JSON that circuit-tracer's and Neuronpedia's front ends read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from circuit_nb.analysis import cumulative_influence, scores
from circuit_nb.files import write_text
from circuit_nb.graph import AttributionGraph, ErrorNode, Feature, Node, TargetNode
from circuit_nb.neuronpedia import ids
from circuit_nb.neuronpedia.annotations import Annotations
from circuit_nb.strict_json import MAX_BYTES
from circuit_nb.version import __version__

EXTENSION = "circuit_nb"
"""Key of `metadata` under which we keep what the format has no field for."""
SOURCE_TYPE = "source_type"
"""Key of a link that says which of two nodes of the same id it comes from."""
_LINK_BYTES = len('{"source": "0_0_0", "target": "0_0_0", "weight": 1.0}, ')
"""A link takes at least as much."""


def to_json(
    graph: AttributionGraph,
    annotations: Annotations | None = None,
    *,
    slug: str | None = None,
    scan: str | None = None,
    source_set: str | None = None,
) -> dict[str, Any]:
    """The graph as attribution-graph JSON, schema version 1.

    Args:
        graph: The graph, normally pruned.
        annotations: Pins, supernodes and labels to store with it.
        slug: Name of the graph in a page's address; made from the prompt if left out.
        scan: Neuronpedia's id of the model, e.g. `"gemma-2-2b"`; by default what the graph's
            provenance says.
        source_set: Neuronpedia's id of the transcoder set, e.g. `"gemmascope-transcoder-16k"`.

    Returns:
        A dict of JSON values.

    Raises:
        ValueError: If slug or scan hold anything but letters, digits, `.`, `-` and `_`, or the
            graph is so large that no one reads its JSON.
    """
    notes = annotations or Annotations()
    origin = graph.provenance
    for name, value in (("slug", slug), ("scan", scan)):
        if value is not None and not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
            raise ValueError(f"{name} is {value!r}; use letters, digits, '.', '-' and '_' only.")
    if np.count_nonzero(graph.weights) > MAX_BYTES / _LINK_BYTES:
        _refuse(graph)
    slug = slug or _slug(graph.prompt)
    scan = scan or _slug(str(origin.get("scan") or origin.get("model") or "").split("/")[-1])
    source_set = source_set or origin.get("source_set")
    return {
        "metadata": _metadata(graph, notes, slug=slug, scan=scan, source_set=source_set),
        "qParams": _parameters(graph, notes),
        "nodes": list(_nodes(graph, notes)),
        "links": list(_links(graph)),
    }


def write(
    graph: AttributionGraph,
    path: str | Path,
    annotations: Annotations | None = None,
    *,
    slug: str | None = None,
    scan: str | None = None,
    source_set: str | None = None,
) -> Path:
    """Write `to_json` to a file.

    Returns:
        The path written.

    Raises:
        ValueError: As `to_json`.
        OSError: If it cannot be written; one sentence says why.
    """
    content = to_json(graph, annotations, slug=slug, scan=scan, source_set=source_set)
    text = json.dumps(content, allow_nan=False)
    if len(text) > MAX_BYTES:
        _refuse(graph)
    return write_text(path, text)


def _refuse(graph: AttributionGraph) -> NoReturn:
    raise ValueError(
        f"The graph has {np.count_nonzero(graph.weights):,} edges; its JSON would be over "
        f"{MAX_BYTES // 2**20} MB, more than is read. Prune it first, or save it with graph.save."
    )


def _slug(text: str) -> str:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "-".join(words)[:60].strip("-") or "unnamed"


def _metadata(
    graph: AttributionGraph, notes: Annotations, *, slug: str, scan: str, source_set: Any
) -> dict[str, Any]:
    found = scores(graph)
    pruned = graph.provenance.get("pruned") or {}
    result: dict[str, Any] = {
        "slug": slug,
        "scan": scan,
        "schema_version": 1,
        "transcoder_list": [],
        "prompt_tokens": list(graph.tokens),
        "prompt": graph.prompt,
        "node_threshold": pruned.get("node_mass")
        if notes.node_threshold is None
        else notes.node_threshold,
        "info": {"generator": {"name": "circuit-nb", "version": __version__}},
        "replacement_score": found.replacement,
        "completeness_score": found.completeness,
        EXTENSION: {
            "n_layers": graph.n_layers,
            "n_active": graph.n_active,
            "provenance": graph.provenance,
        },
    }
    if pruned:
        result["pruning_settings"] = {
            "node_threshold": pruned.get("node_mass"),
            "edge_threshold": pruned.get("edge_mass"),
        }
    if source_set:
        result["feature_details"] = {"neuronpedia_source_set": str(source_set)}
    return {k: v for k, v in result.items() if not (v is None or v != v)}


def _parameters(graph: AttributionGraph, notes: Annotations) -> dict[str, Any]:
    def names(nodes: tuple[Node, ...]) -> list[str]:
        return [ids.of(graph, node).node_id for node in nodes if node in graph]

    return {
        "linkType": "both",
        "pinnedIds": names(notes.pins),
        "clickedId": "".join(names((notes.selected,) if notes.selected else ())),
        "sg_pos": "",
        "supernodes": [[name, *names(nodes)] for name, nodes in notes.supernodes],
    }


def _nodes(graph: AttributionGraph, notes: Annotations) -> Iterator[dict[str, Any]]:
    cumulative = cumulative_influence(graph)
    likeliest = int(np.argmax(graph.target_probabilities)) if graph.targets else -1
    for number, node in enumerate(graph.nodes):
        names = ids.of(graph, node)
        entry: dict[str, Any] = {
            "node_id": names.node_id,
            "feature": names.feature,
            "layer": names.layer,
            "ctx_idx": names.position,
            "feature_type": names.feature_type,
            "token_prob": 0.0,
            "is_target_logit": False,
            "run_idx": 0,
            "reverse_ctx_idx": 0,
            "jsNodeId": names.js_id,
            "clerp": notes.labels.get(node, ""),
            "influence": float(cumulative[number]),
        }
        if isinstance(node, Feature):
            entry["activation"] = float(graph.activations[number])
        elif isinstance(node, TargetNode):
            probability = float(graph.target_probabilities[node.index])
            text = f'Output "{graph.targets[node.index]}" (p={probability:.3f})'
            entry |= {"token_prob": probability, "is_target_logit": node.index == likeliest}
            entry["clerp"] = text
        yield entry


def _links(graph: AttributionGraph) -> Iterator[dict[str, Any]]:
    names = [ids.of(graph, node).node_id for node in graph.nodes]
    rows = graph.rows.tolist()
    shared = _shared_ids(graph)
    for row, column in np.argwhere(graph.weights).tolist():
        link: dict[str, Any] = {"source": names[column], "target": names[rows[row]]}
        link["weight"] = float(graph.weights[row, column])
        if names[column] in shared:
            link[SOURCE_TYPE] = ids.of(graph, graph.nodes[column]).feature_type
        yield link


def _shared_ids(graph: AttributionGraph) -> set[str]:
    """Ids that a feature of layer 0 and an error node both have."""
    features, errors = graph.nodes[graph.blocks.features], graph.nodes[graph.blocks.errors]
    wanted = {ErrorNode(f.index, f.position) for f in features if isinstance(f, Feature)}
    return {ids.of(graph, node).node_id for node in errors if node in wanted} & {
        ids.of(graph, node).node_id for node in features
    }
