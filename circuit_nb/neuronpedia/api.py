"""Graphs at Neuronpedia: reading needs nothing, publishing needs a key."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from circuit_nb.graph import AttributionGraph
from circuit_nb.neuronpedia.annotations import Annotations
from circuit_nb.neuronpedia.links import base_url, parse_link
from circuit_nb.neuronpedia.reading import GraphFile, from_bytes, read_file
from circuit_nb.neuronpedia.web import NeuronpediaError, Patience, request, unlogged
from circuit_nb.neuronpedia.writing import to_json
from circuit_nb.strict_json import Reader, parse

_KEY_NAME = "NEURONPEDIA_API_KEY"


def read(
    source: str | Path, slug: str | None = None, *, patience: Patience | None = None
) -> GraphFile:
    """Read a graph and its annotations from a file, a page's address, or model id and slug.

    Args:
        source: A JSON file; the address of a graph page or of a JSON file; or Neuronpedia's id of
            a model, e.g. `"gemma-2-2b"`.
        slug: Name of the graph, where `source` is a model's id.
        patience: How long to try.

    Returns:
        The graph, and the pins, supernodes and labels of the file or the address.

    Raises:
        ValueError: If what is found is no such graph.
        FileNotFoundError: If there is no such file.
        NeuronpediaError: If Neuronpedia does not give it.
    """
    if slug is not None:
        return _stored(str(source), slug, patience)
    if not str(source).startswith(("http://", "https://")):
        return read_file(source)
    url = str(source)
    if not urlsplit(url).path.rstrip("/").endswith("/graph"):
        return from_bytes(request("GET", url, patience=patience), url[:120])
    link = parse_link(url)
    found = _stored(link.model_id, link.slug, patience)
    notes = link.annotations(found.graph)
    named = {**found.annotations.labels, **notes.labels}
    if not (notes.pins or notes.supernodes):
        notes = found.annotations
    return GraphFile(
        found.graph,
        Annotations(named, notes.pins, notes.supernodes, notes.selected, notes.node_threshold),
    )


def _stored(model_id: str, slug: str, patience: Patience | None) -> GraphFile:
    """A graph kept at Neuronpedia: its entry names the file."""
    name = f"Neuronpedia's graph {model_id}/{slug}"
    address = f"{base_url()}/api/graph/{quote(model_id, safe='')}/{quote(slug, safe='')}"
    try:
        entry = Reader(parse(request("GET", address, patience=patience), name), name)
    except NeuronpediaError as error:
        if error.status == 404:
            raise NeuronpediaError(f"{name} does not exist; check both parts.", 404) from None
        raise
    return from_bytes(request("GET", entry.text("url"), patience=patience), name)


def upload(
    graph: AttributionGraph,
    annotations: Annotations | None = None,
    *,
    slug: str,
    model_id: str,
    source_set: str | None = None,
    api_key: str | None = None,
) -> str:
    """Publish a graph at Neuronpedia, under the account of the key.

    Args:
        graph: The graph, normally pruned.
        annotations: Pins, supernodes and labels stored with it.
        slug: Name of the graph: letters, digits, `-` and `_`.
        model_id: Neuronpedia's id of the model, which it must know, e.g. `"gemma-2-2b"`.
        source_set: Its id of the transcoder set.
        api_key: The key; by default the environment's NEURONPEDIA_API_KEY.

    Returns:
        The address of the graph's page.

    Raises:
        ValueError: If there is no key, or the graph's JSON is too small or too large.
        NeuronpediaError: If Neuronpedia refuses; the message never holds the key.
    """
    key = (api_key or os.environ.get(_KEY_NAME, "")).strip()
    if not (key and key.isascii() and key.isprintable()):
        raise ValueError(
            f"Uploading needs a key: make one on your account page at {base_url()} and put it in "
            f"the environment as {_KEY_NAME}."
        )
    if not all(part.replace("-", "a").replace("_", "a").isalnum() for part in (slug, model_id)):
        raise ValueError("slug and model_id may hold letters, digits, '-' and '_' only.")
    content = to_json(graph, annotations, slug=slug, scan=model_id, source_set=source_set)
    body = json.dumps(content, allow_nan=False).encode()
    if not 1024 <= len(body) <= 100 * 2**20:
        raise ValueError(
            f"The graph's JSON has {len(body)} bytes; Neuronpedia takes 1 KiB to 100 MiB."
        )
    keyed = {"x-api-key": key, "content-type": "application/json"}
    asked = {
        "filename": f"{slug}.json",
        "contentLength": len(body),
        "contentType": "application/json",
    }
    place = _post("graph/signed-put", asked, keyed)
    with unlogged():
        request(
            "PUT", place.text("url"), content=body, headers={"content-type": keyed["content-type"]}
        )
    return _post("graph/save-to-db", {"putRequestId": place.text("putRequestId")}, keyed).text(
        "url"
    )


def _post(path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Reader:
    reply = request(
        "POST", f"{base_url()}/api/{path}", content=json.dumps(body).encode(), headers=headers
    )
    return Reader(parse(reply, "Neuronpedia's reply"), "Neuronpedia's reply")
