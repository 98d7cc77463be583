"""Addresses of Neuronpedia's graph and feature pages: made and taken apart."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from circuit_nb.graph import AttributionGraph, Node
from circuit_nb.neuronpedia import ids
from circuit_nb.neuronpedia.annotations import Annotations
from circuit_nb.strict_json import Reader, parse

HOME = "https://www.neuronpedia.org"
_MAX_URL = 200_000


def base_url() -> str:
    """Where Neuronpedia is: `NEURONPEDIA_URL` for one's own copy, else the public site."""
    return os.environ.get("NEURONPEDIA_URL", HOME).rstrip("/")


@dataclass(frozen=True)
class GraphLink:
    """What the address of a graph page says. Ids name nodes as the graph's JSON does."""

    model_id: str
    """Neuronpedia's id of the model, e.g. `gemma-2-2b`."""
    slug: str
    """Name of the graph."""
    pinned_ids: tuple[str, ...] = ()
    """Nodes of the subgraph."""
    supernodes: tuple[tuple[str, ...], ...] = ()
    """Each a label followed by the ids of its members."""
    clerps: tuple[tuple[str, str], ...] = ()
    """(id, label) of renamed nodes."""
    clicked_id: str = ""
    """The node shown in detail."""
    pruning_threshold: float | None = None
    """Show nodes up to this cumulative influence."""
    density_threshold: float | None = None
    """Hide features that are active on more than this share of tokens."""

    @property
    def url(self) -> str:
        """The page's address."""
        query: dict[str, Any] = {"slug": self.slug}
        if self.pinned_ids:
            query["pinnedIds"] = ",".join(self.pinned_ids)
        for name, rows in (("supernodes", self.supernodes), ("clerps", self.clerps)):
            if rows:
                query[name] = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        if self.clicked_id:
            query["clickedId"] = self.clicked_id
        for name, share in (
            ("pruningThreshold", self.pruning_threshold),
            ("densityThreshold", self.density_threshold),
        ):
            if share is not None:
                query[name] = share
        page = f"{base_url()}/{quote(self.model_id, safe='')}/graph"
        return f"{page}?{urlencode(query, quote_via=quote)}"

    def annotations(self, graph: AttributionGraph) -> Annotations:
        """Pins, supernodes and labels as nodes of `graph`; what it does not hold is left out."""
        known: dict[str, Node] = {}
        for node in graph.nodes:
            known.setdefault(ids.of(graph, node).node_id, node)
        groups = (
            (row[0], tuple(known[i] for i in row[1:] if i in known)) for row in self.supernodes
        )
        return Annotations(
            labels={known[i]: label for i, label in self.clerps if i in known},
            pins=tuple(known[i] for i in self.pinned_ids if i in known),
            supernodes=tuple((name, nodes) for name, nodes in groups if nodes),
            selected=known.get(self.clicked_id),
            node_threshold=self.pruning_threshold,
        )


def page_link(
    graph: AttributionGraph,
    annotations: Annotations | None = None,
    *,
    model_id: str,
    slug: str,
    density_threshold: float | None = None,
) -> GraphLink:
    """The page of an uploaded graph, opened with the reader's pins, supernodes and labels."""
    notes = annotations or Annotations()

    def name(node: Node) -> str:
        return ids.of(graph, node).node_id

    return GraphLink(
        model_id,
        slug,
        tuple(name(node) for node in notes.pins),
        tuple((label, *map(name, nodes)) for label, nodes in notes.supernodes),
        tuple((name(node), label) for node, label in notes.labels.items()),
        name(notes.selected) if notes.selected is not None else "",
        notes.node_threshold,
        density_threshold,
    )


def parse_link(url: str) -> GraphLink:
    """Take the address of a graph page apart.

    Raises:
        ValueError: If it is no such address.
    """
    if len(url) > _MAX_URL:
        raise ValueError(f"The address has {len(url)} characters; no graph page's is that long.")
    parts = urlsplit(url)
    folders = parts.path.strip("/").split("/")
    try:
        query = {
            key: values[-1] for key, values in parse_qs(parts.query, max_num_fields=100).items()
        }
    except ValueError:
        raise ValueError("The address has over 100 fields; no graph page's has.") from None
    if parts.scheme not in ("http", "https") or len(folders) != 2 or folders[1] != "graph":
        raise ValueError(
            f"{url[:120]!r} is no graph page; it looks like {HOME}/gemma-2-2b/graph?slug=…"
        )
    if not query.get("slug"):
        raise ValueError(f"{url[:120]!r} does not say which graph: '?slug=…' is missing.")
    return GraphLink(
        folders[0],
        query["slug"],
        tuple(i for i in query.get("pinnedIds", "").split(",") if i),
        _rows(query, "supernodes"),
        tuple((row[0], row[1]) for row in _rows(query, "clerps") if len(row) == 2),
        query.get("clickedId", ""),
        _share(query, "pruningThreshold"),
        _share(query, "densityThreshold"),
    )


def _rows(query: dict[str, str], key: str) -> tuple[tuple[str, ...], ...]:
    if key not in query:
        return ()
    name = f"The address's {key!r}"
    rows = Reader({key: parse(query[key].encode("utf-8", "replace"), name)}, name).items(key)
    return tuple(tuple(Reader({key: row}, name).texts(key)) for row in rows)


def _share(query: dict[str, str], key: str) -> float | None:
    """A share from 0 to 1; None where it is missing or is none."""
    try:
        share = float(query[key])
    except (KeyError, ValueError):
        return None
    return share if 0 <= share <= 1 else None


def source_id(layer: int, source_set: str) -> str:
    """Neuronpedia's name of one layer's transcoder, e.g. `20-gemmascope-transcoder-16k`."""
    return f"{layer}-{source_set}"


def feature_url(model_id: str, source_set: str, layer: int, index: int) -> str:
    """The page of one feature."""
    parts = (model_id, source_id(layer, source_set), str(index))
    return "/".join([base_url(), *(quote(part, safe="") for part in parts)])
