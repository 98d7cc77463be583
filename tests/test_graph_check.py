"""What an attribution graph must be, whoever makes it: by hand, from a file, from JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import small_graph
from safetensors.numpy import load_file, save_file
from test_graph import random_graph

from circuit_nb import analysis, neuronpedia
from circuit_nb.graph import AttributionGraph, TargetNode, TokenNode
from circuit_nb.graph_check import ARRAYS, MAX_LAYERS

HEADER = ("prompt", "tokens", "targets", "n_layers", "n_active", "provenance")


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def swapped(array: Any) -> Any:
    return array[[1, 0, *range(2, len(array))]]


def put(name: str, place: Any, value: Any) -> dict[str, Any]:
    array = getattr(small_graph(), name).copy()
    array[place] = value
    return {name: array}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompt": 5}, "has 5 for prompt"),
    ({"prompt": "a\ud800"}, "for prompt, half a surrogate pair"),
    ({"tokens": 5}, "has 5 for tokens, where a list of texts"),
    ({"tokens": "abcdef"}, "for tokens, where a list of texts"),
    ({"tokens": ("a", "b", "c", "d", "e", 6)}, r"has 6 for tokens\[5\]"),
    ({"tokens": {"a": 1}}, "for tokens"),
    ({"targets": None}, "has None for targets"),
    ({"targets": (" Austin", None)}, r"has None for targets\[1\]"),
    ({"features": np.int64(3)}, r"features has shape \(\)"),
    ({"weights": np.float32(3)}, r"weights has shape \(\)"),
    ({"activations": np.float32(3)}, r"activations has shape \(\)"),
    ({"activations": "12345"}, "activations of type <U5"),
    ({"activations": [[1.0], [1.0, 2.0]]}, "activations that are no array"),
    ({"activations": np.ones(5, dtype=bool)}, "activations of type bool"),
    ({"activations": np.full(5, 1e300)}, "activations hold NaN or infinity"),
    ({"token_ids": np.full(6, 9.7)}, "token_ids that are no whole numbers"),
    ({"token_ids": np.full(6, np.nan)}, "token_ids that are no whole numbers"),
    ({"token_ids": np.full(6, 2**64 - 1, dtype=np.uint64)}, "token_ids that are no whole"),
    (put("token_ids", 2, -2), r"has -2 as token_ids\[2\]"),
    (put("target_ids", 0, 10**9), r"has 1000000000 as target_ids\[0\]"),
    (put("features", (0, 0), -1), r"has \(-1, 2, 3\) as features\[0\]"),
    (put("features", (4, 0), 3), r"has \(3, 5, 11\) as features\[4\]"),
    (put("features", (0, 1), 6), r"has \(0, 6, 3\) as features\[0\]"),
    (put("features", (0, 2), -7), r"as features\[0\]"),
    (put("errors", 0, (-1, 0)), r"has \(-1, 0\) as errors\[0\]"),
    (put("errors", 17, (2, 6)), r"has \(2, 6\) as errors\[17\]"),
    ({"features": swapped(small_graph().features)}, r"features\[1\] after .*ascending"),
    (put("features", 1, (0, 2, 3)), r"features\[1\] after .*each once"),
    ({"errors": swapped(small_graph().errors)}, r"errors\[1\] after .*ascending"),
    (put("weights", (0, 0), np.inf), "weights hold NaN or infinity"),
    (put("weights", (0, 0), 1e31), "weights hold a number beyond 1e30"),
    (put("activations", 0, np.nan), "activations hold NaN"),
    (put("target_probabilities", 0, -0.1), "target_probability below 0"),
    (put("weights", (0, 0), 1.0), r"edge from the feature \(0, 2, 3\) to the feature \(0, 2, 3\)"),
    (put("weights", (2, 4), 1.0), r"from the feature \(2, 5, 11\) to the feature \(1, 4, 2\)"),
    (put("weights", (4, 22), 1.0), r"from the error \(2, 5\) to the feature \(2, 5, 11\)"),
    ({"n_layers": 0}, "has 0 for n_layers"),
    ({"n_layers": -3}, "has -3 for n_layers"),
    ({"n_layers": 10**9}, "has 1000000000 for n_layers"),
    ({"n_layers": MAX_LAYERS + 1}, "for n_layers, where 1 to 4096"),
    ({"n_layers": True}, "has True for n_layers"),
    ({"n_layers": 3.0}, "has 3.0 for n_layers"),
    ({"n_layers": "3"}, "has '3' for n_layers"),
    ({"n_layers": 2}, r"\(2, 5, 11\) as features\[4\]"),
    ({"n_active": 4}, "has 4 for n_active, where 5 to"),
    ({"n_active": 2**70}, "for n_active"),
    ({"provenance": None}, "has None for provenance"),
    ({"provenance": [1]}, "for provenance, where a dict"),
    ({"provenance": {1: 2}}, "has 1 for a key in provenance"),
    ({"provenance": {"a": {1, 2}}}, "in provenance; only JSON's values"),
    ({"provenance": {"a": float("nan")}}, "has nan in provenance"),
    ({"provenance": {"a": "\udc00"}}, "half a surrogate pair"),
    ({"provenance": {"a": 10**40}}, "in provenance; only JSON's values"),
    ({"provenance": {"a": deep(40)}}, "more than 32 levels deep"),
    ({"provenance": {"pruned": 5}}, "was pruned at 5"),
    ({"provenance": {"pruned": {"node_mass": 7}}}, "was pruned at"),
]


@pytest.mark.parametrize(("change", "reason"), WRONG, ids=[reason[:40] for _, reason in WRONG])
def test_what_is_no_graph_is_refused_when_it_is_made(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        replace(small_graph(), **change)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_a_graph_of_no_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="has 0 tokens"):
        AttributionGraph(
            prompt="",
            tokens=(),
            token_ids=np.zeros(0),
            features=np.zeros((0, 3)),
            activations=np.zeros(0),
            errors=np.zeros((0, 2)),
            targets=(),
            target_ids=np.zeros(0),
            target_probabilities=np.zeros(0),
            weights=np.zeros((0, 0)),
            n_layers=1,
            n_active=0,
        )


def _file(path: Path, header: dict[str, Any], arrays: dict[str, Any]) -> Path:
    graph = small_graph()
    every = {name: getattr(graph, name) for name in ARRAYS} | arrays
    texts = {"schema_version": 1, **{name: getattr(graph, name) for name in HEADER}} | header
    save_file(
        {name: np.ascontiguousarray(array) for name, array in every.items()},
        path,
        metadata={"circuit_nb": json.dumps(texts)},
    )
    return path


def _fits_json(change: dict[str, Any]) -> bool:
    try:
        json.dumps({k: v for k, v in change.items() if k in HEADER})
    except TypeError:
        return False
    if change.get("provenance") == {1: 2}:  # JSON makes it a text
        return False
    return not any(isinstance(v, str | list) for k, v in change.items() if k in ARRAYS)


@pytest.mark.parametrize(
    "change", [c for c, _ in WRONG if _fits_json(c)], ids=lambda c: str(next(iter(c)))
)
def test_a_file_of_it_is_refused_in_the_same_words(change: dict[str, Any], tmp_path: Path) -> None:
    header = {name: value for name, value in change.items() if name in HEADER}
    arrays = {name: np.array(value) for name, value in change.items() if name in ARRAYS}
    path = _file(tmp_path / "g.safetensors", header, arrays)
    with pytest.raises(ValueError, match=r"g\.safetensors") as caught:
        AttributionGraph.load(path)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "no attribution graph"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "no attribution graph"),
        ("5", "no attribution graph"),
        ("{}", "no attribution graph"),
        ('{"schema_version": true}', "schema True"),
        ('{"schema_version": 0}', "schema 0"),
        ('{"schema_version": "1"}', "schema '1'"),
        ('{"schema_version": "\\n"}', r"schema '\\n'; this"),
        ('"' + "a" * 2**24 + '"', "characters; no graph has"),
    ],
)
def test_other_headers_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    arrays = {name: np.ascontiguousarray(getattr(small_graph(), name)) for name in ARRAYS}
    save_file(arrays, tmp_path / "g.safetensors", metadata={"circuit_nb": text})
    with pytest.raises(ValueError, match=reason):
        AttributionGraph.load(tmp_path / "g.safetensors")


def test_types_that_numpy_has_not_are_refused(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    path = _file(tmp_path / "g.safetensors", {}, {})
    tensors = {name: torch.from_numpy(array) for name, array in load_file(path).items()}
    header = {"schema_version": 1, **{name: getattr(small_graph(), name) for name in HEADER}}
    for wrong in (torch.bfloat16, torch.float8_e4m3fn, torch.bool, torch.complex64):
        save_torch(
            {**tensors, "weights": tensors["weights"].to(wrong)},
            path,
            metadata={"circuit_nb": json.dumps(header)},
        )
        with pytest.raises(ValueError, match="holds weights of type"):
            AttributionGraph.load(path)


def test_numbers_are_taken_where_nothing_is_lost() -> None:
    graph = small_graph()
    same = replace(
        graph,
        features=graph.features.astype(np.float64),
        errors=graph.errors.tolist(),
        token_ids=graph.token_ids.astype(np.uint8),
        weights=graph.weights.astype(np.float64),
        n_layers=np.int64(3),
        provenance={"seed": np.int64(7), "mass": np.float32(0.5), "scan": ("a", "b")},
    )
    for name in ARRAYS:
        assert getattr(same, name).dtype == ARRAYS[name]
        np.testing.assert_array_equal(getattr(same, name), getattr(graph, name))
    assert type(same.n_layers) is int
    assert same.provenance == {"seed": 7, "mass": 0.5, "scan": ["a", "b"]}


def test_what_prune_leaves_is_a_graph() -> None:
    """It is not checked again; here it is."""
    for seed in range(30):
        graph = random_graph(seed)
        small = analysis.prune(graph, 0.5, 0.9)
        again = replace(small)
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(small, name), getattr(again, name))
            assert getattr(small, name).dtype == ARRAYS[name]
        assert again.provenance["pruned"] == {"node_mass": 0.5, "edge_mass": 0.9}
        assert small.nodes == again.nodes


def test_as_many_layers_as_there_can_be_take_no_time() -> None:
    graph = replace(random_graph(), n_layers=MAX_LAYERS)
    np.testing.assert_array_equal(analysis.influence(graph), analysis.influence(random_graph()))
    again = neuronpedia.from_json(json.loads(json.dumps(neuronpedia.to_json(graph)))).graph
    assert again.n_layers == MAX_LAYERS


def test_json_with_too_many_layers_is_refused() -> None:
    content = neuronpedia.to_json(small_graph())
    content["metadata"]["circuit_nb"]["n_layers"] = 10**9
    with pytest.raises(ValueError, match="has 1000000000 for 'n_layers'"):
        neuronpedia.from_json(content)
    content = neuronpedia.to_json(small_graph())
    content["metadata"]["prompt_tokens"] = []
    content["nodes"], content["links"] = [], []
    with pytest.raises(ValueError, match="has 0 tokens"):
        neuronpedia.from_json(content)


def test_paths_climb() -> None:
    graph = small_graph()
    for path in analysis.paths(graph, TokenNode(4), TargetNode(0)):
        layers = [getattr(node, "layer", -1) for node in path.nodes[:-1]]
        assert layers == sorted(set(layers))
