"""The kinds of files that are damaged, and what is done with those that are not refused."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from folders import transcoders
from made import small_graph
from mutations import damage_bytes, damage_tensors, damage_tree, safetensors, to_json
from test_graph import random_graph

from circuit_nb import analysis, figures, neuronpedia
from circuit_nb.graph import AttributionGraph, Feature, Supernode, TargetNode, TokenNode
from circuit_nb.graph_check import ARRAYS
from circuit_nb.panels import Session, store

HEADER = ("prompt", "tokens", "targets", "n_layers", "n_active", "provenance")


def use_graph(graph: AttributionGraph, draw: random.Random) -> None:
    """What a reader does with a graph; numbers stay finite, and both files give it back."""
    assert np.isfinite(analysis.influence(graph)).all()
    scores = analysis.scores(graph)
    assert all(s != s or -1e-3 <= s <= 1 + 1e-3 for s in scores), scores
    small = analysis.prune(graph)
    same(small, dataclasses.replace(small))  # which checks it
    if graph.targets:
        analysis.paths(graph, TokenNode(0), TargetNode(0), 3)
    text = json.dumps(neuronpedia.to_json(graph), allow_nan=False)
    same(graph, neuronpedia.from_bytes(text.encode()).graph)
    if draw.random() < 0.02:
        figures.graph_figure(graph)


def same(first: AttributionGraph, second: AttributionGraph) -> None:
    for name in HEADER:
        assert getattr(first, name) == getattr(second, name), name
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


@functools.cache
def _graphs() -> tuple[AttributionGraph, ...]:
    small = small_graph()
    repeated = dataclasses.replace(small, target_ids=[40, 40], targets=(" Austin", " Austin"))
    return small, analysis.prune(small), repeated, random_graph(3, n_features=8, positions=3)


def _graph_file(graph: AttributionGraph, draw: random.Random) -> bytes:
    """A graph's file with one thing or another of it damaged."""
    arrays = {name: getattr(graph, name) for name in ARRAYS}
    header = {"schema_version": 1, **{name: getattr(graph, name) for name in HEADER}}
    header = json.loads(json.dumps(header))
    way = draw.randrange(4)
    if way in (0, 3):
        arrays = damage_tensors(arrays, draw)
    text = to_json(damage_tree(header, draw) if way == 1 else header, draw)
    data = safetensors(arrays, {"circuit_nb": text.decode()}, draw)
    return damage_bytes(data, draw) if way == 2 else data


def graph(folder: Path, draw: random.Random) -> Callable[[], object]:
    """A graph as `AttributionGraph.save` writes it."""
    path = _write(folder, "graph.safetensors", _graph_file(draw.choice(_graphs()), draw))

    def use() -> None:
        found = AttributionGraph.load(path)
        use_graph(found, draw)
        same(found, AttributionGraph.load(found.save(path)))

    return use


@functools.cache
def _session_header() -> dict[str, Any]:
    session = Session(small_graph(), cards=lambda _: {})
    nodes = session.graph.nodes
    features = [n for n in nodes if isinstance(n, Feature)]
    session.pin(features[0], TokenNode(2), TargetNode(1), nodes[7])
    session.group("Texas", features[1:3])
    session.relabel(features[4], "a label")
    state = session.setup.to_json()
    added = {"name": "California", "features": [[0, 3, 8]], "values": [1.5], "prompt": "other"}
    state |= {"added": [added], "switches": {"Texas": [False, 1.0], "California": [True, 2.0]}}
    return {"setup": state, "kept": 0.7, "errors": True, "links": "both", "new_tokens": 5}


def session(folder: Path, draw: random.Random) -> Callable[[], object]:
    """A session as `Explorer.save` writes it."""
    state = _session_header()
    graph = small_graph()
    if draw.random() < 0.9:
        state = damage_tree(state, draw)
        header = {name: getattr(graph, name) for name in HEADER}
        header = {"schema_version": 1, **header, "provenance": {"session": state}}
        arrays = {name: getattr(graph, name) for name in ARRAYS}
        text = to_json(header, draw).decode()
        data = safetensors(arrays, {"circuit_nb": text}, random.Random(0.5))
    else:
        data = _graph_file(dataclasses.replace(graph, provenance={"session": state}), draw)
    path = _write(folder, "session.safetensors", data)

    def use() -> None:
        found = store.load(path, cards=lambda _: {})
        _use_session(found)
        again = store.load(store.save(found, path), cards=lambda _: {})
        assert again.setup == found.setup

    return use


def _use_session(found: Session) -> None:
    for group in found.groups:
        if not isinstance(group, Supernode):
            assert isinstance(found.title(group), str)
    found.badges()
    found.switched()
    assert isinstance(found.rows, dict)
    assert found.view.shown.any()
    analysis.supernode_weights(found.graph, found.groups)
    found.find_paths()


@functools.cache
def _jsons() -> tuple[Any, ...]:
    notes = neuronpedia.Annotations(
        labels={Feature(0, 2, 3): "capital"},
        pins=(TargetNode(0), Feature(0, 4, 7)),
        supernodes=(("Texas", (Feature(0, 4, 7), TokenNode(4))),),
        selected=Feature(2, 5, 11),
        node_threshold=0.6,
    )
    ours = [json.loads(json.dumps(neuronpedia.to_json(g, notes))) for g in _graphs()]
    foreign = json.loads(json.dumps(ours[0]))
    del foreign["metadata"]["circuit_nb"]
    return (*ours, foreign)


def graph_json(folder: Path, draw: random.Random) -> Callable[[], object]:
    """A graph as the JSON of circuit-tracer and Neuronpedia."""
    tree, way = draw.choice(_jsons()), draw.random()
    if way < 0.7:
        data = to_json(damage_tree(tree, draw), draw)
    else:
        data = damage_bytes(json.dumps(tree).encode(), draw)
    path = _write(folder, "graph.json", data)

    def use() -> None:
        found = neuronpedia.read(path)
        use_graph(found.graph, draw)
        again = neuronpedia.read(neuronpedia.write(found.graph, path, found.annotations))
        same(found.graph, again.graph)
        _same_notes(found.annotations, again.annotations)

    return use


def _same_notes(first: neuronpedia.Annotations, second: neuronpedia.Annotations) -> None:
    assert first.labels == second.labels
    assert [name for name, _ in first.supernodes] == [name for name, _ in second.supernodes]
    # A graph that was pruned says at what, where its reader did not.
    assert first.node_threshold in (None, second.node_threshold)


def _write(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    return path


KINDS: dict[str, Callable[[Path, random.Random], Callable[[], object]]] = {
    "graph": graph,
    "session": session,
    "json": graph_json,
    "transcoders": transcoders,
}
