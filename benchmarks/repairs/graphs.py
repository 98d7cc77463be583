"""Point 6: graphs, sessions and JSON from strangers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from registry import case

HEADER = ("prompt", "tokens", "targets", "n_layers", "n_active", "provenance")


def graph(**change: Any) -> Any:
    """Two tokens, two layers, two features, two outputs."""
    from circuit_nb import AttributionGraph

    weights = np.zeros((4, 2 + 4 + 2), dtype=np.float32)
    weights[0, 7], weights[1, 0], weights[1, 7], weights[2, 1], weights[3, 1] = 1, 2, 0.5, 3, 1
    fields: dict[str, Any] = {
        "prompt": "Dallas", "tokens": ("<bos>", "Dallas"), "token_ids": np.array([1, 5]),
        "features": np.array([[0, 1, 7], [1, 1, 3]]), "activations": np.array([1.0, 2.0]),
        "errors": np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), "targets": (" Austin", " Texas"),
        "target_ids": np.array([8, 9]), "target_probabilities": np.array([0.8, 0.1]),
        "weights": weights, "n_layers": 2, "n_active": 2, "provenance": {},
    }  # fmt: skip
    return AttributionGraph(**{**fields, **change})


def opened(text: str | None = None, **change: Any) -> Any:
    """A graph's file with other header fields or arrays, or another header, opened."""
    from safetensors.numpy import load_file, save_file

    from circuit_nb import AttributionGraph

    path, whole = Path(tempfile.mkdtemp()) / "g.safetensors", graph()
    whole.save(path)
    header = {"schema_version": 1, **{name: getattr(whole, name) for name in HEADER}}
    arrays = load_file(path)
    for name, value in change.items():
        if name in HEADER:
            header[name] = value
        else:
            arrays[name] = np.array(value, order="C")
    save_file(arrays, path, metadata={"circuit_nb": text or json.dumps(header)})
    return AttributionGraph.load(path)


def scored(**change: Any) -> str:
    from circuit_nb import scores

    found = scores(opened(**change))
    return f"accepted; replacement {found.replacement:.2f}, completeness {found.completeness:.2f}"


def drawn(**change: Any) -> str:
    from circuit_nb import figures

    figures.graph_figure(opened(**change))
    return "accepted and drawn"


def as_json(**change: Any) -> str:
    from circuit_nb import neuronpedia

    return f"accepted; {len(neuronpedia.to_json(opened(**change))['nodes'])} nodes in its JSON"


NO_TOKENS: dict[str, Any] = {
    "tokens": [], "token_ids": np.zeros(0, np.int64), "features": np.zeros((0, 3), np.int64),
    "activations": np.zeros(0, np.float32), "errors": np.zeros((0, 2), np.int64),
    "weights": np.zeros((2, 0), np.float32), "n_active": 0,
}  # fmt: skip
FILES: dict[str, tuple[Callable[..., object], dict[str, Any]]] = {
    "opens a graph file as it is": (scored, {}),
    "its header is 100,000 brackets": (opened, {"text": "[" * 100_000}),
    "its `tokens` are 5": (scored, {"tokens": 5}),
    "its `targets` are null": (scored, {"targets": None}),
    "a token is a number": (drawn, {"tokens": ["<bos>", 5]}),
    "`features` is a scalar tensor": (scored, {"features": 3}),
    "`n_layers` is 10⁹": (scored, {"n_layers": 10**9}),
    "`n_layers` is 0": (scored, {"n_layers": 0}),
    "`n_layers` is −3": (scored, {"n_layers": -3}),
    "a feature stands at position 9 of 2": (scored, {"features": [[0, 9, 7], [1, 1, 3]]}),
    "a feature stands in layer 5 of 2": (scored, {"features": [[0, 1, 7], [5, 1, 3]]}),
    "`provenance` is {'pruned': 5}": (as_json, {"provenance": {"pruned": 5}}),
    "a graph of no tokens": (as_json, NO_TOKENS),
}
for does, (use, change) in FILES.items():
    case(6, does)(partial(use, **change))


@case(6, "a graph file's features are out of order")
def out_of_order() -> str:
    from circuit_nb import analysis
    from circuit_nb.graph import TargetNode, TokenNode

    def lengths(of: Any) -> list[int]:
        return [len(p.nodes) for p in analysis.paths(of, TokenNode(1), TargetNode(0), top_k=5)]

    whole, order = graph(), [1, 0, *range(2, 8)]
    mixed = opened(
        features=whole.features[[1, 0]],
        activations=whole.activations[[1, 0]],
        weights=whole.weights[[1, 0, 2, 3]][:, order],
    )
    return f"accepted; paths of {lengths(mixed)} nodes, in order they are of {lengths(whole)}"


@case(6, "graph JSON of 10⁹ layers")
def json_layers() -> str:
    from circuit_nb import neuronpedia

    content = neuronpedia.to_json(graph())
    content["metadata"]["circuit_nb"]["n_layers"] = 10**9
    return f"accepted; {neuronpedia.from_json(content).graph.n_layers} layers"


@case(6, "JSON of a graph that asks for a token twice, read back")
def json_repeated() -> str:
    from circuit_nb import neuronpedia

    twice = graph(target_ids=np.array([8, 8]), targets=(" Austin", " Austin"))
    return f"targets {neuronpedia.from_json(neuronpedia.to_json(twice)).graph.targets}"


@case(6, "JSON with a label of 20,000 characters, read back")
def json_long() -> str:
    from circuit_nb import neuronpedia
    from circuit_nb.graph import Feature

    feature = Feature(0, 1, 7)
    notes = neuronpedia.Annotations(labels={feature: "x" * 20_000})
    path = neuronpedia.write(graph(), Path(tempfile.mkdtemp()) / "g.json", notes)
    return f"a label of {len(neuronpedia.read(path).annotations.labels[feature])} characters"


def session(change: Callable[[dict[str, Any]], object]) -> str:
    """Open a session file whose state was changed."""
    from circuit_nb import AttributionGraph
    from circuit_nb.graph import Feature
    from circuit_nb.panels import Session, explore, store

    made = Session(graph(), cards={})
    made.group("Texas", [Feature(0, 1, 7)])
    path = store.save(made, Path(tempfile.mkdtemp()) / "s.safetensors")
    state = AttributionGraph.load(path).provenance["session"]
    change(state)
    graph(provenance={"session": state}).save(path)
    explore.load(path, cards={})
    return "accepted"


SESSIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "opens a session file as it is": lambda state: None,
    "a session file without `setup`": lambda state: state.pop("setup"),
    "a session file keeps 7 times the nodes": lambda state: state.update(kept=7.0),
    "a session pins an index beyond 64 bits": lambda state: state["setup"].update(
        pinned=["feature-0-1-" + "9" * 30]
    ),
    "a session pins a token outside the prompt": lambda state: state["setup"].update(
        pinned=["token-99"]
    ),
}
for does, make in SESSIONS.items():
    case(6, does)(partial(session, make))
