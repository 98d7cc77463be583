"""Attribution-graph JSON: round trips, the variants of the format, and hostile files."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuit_nb import neuronpedia, strict_json
from circuit_nb.graph import AttributionGraph, ErrorNode, Feature, TargetNode, TokenNode
from circuit_nb.neuronpedia import Annotations, ids, reading

DATA = Path(__file__).parents[1] / "data"
ARRAYS = ("token_ids", "features", "activations", "errors", "target_ids", "weights")

texts = st.text(st.characters(codec="utf-8"), max_size=8)
floats = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@st.composite
def graphs(draw: st.DrawFn) -> AttributionGraph:
    """Small graphs, layer-0 features often sharing their id with an error node."""
    n_layers, n_positions, n_targets = (draw(st.integers(1, k)) for k in (4, 4, 3))
    place = st.tuples(st.integers(0, n_layers - 1), st.integers(0, n_positions - 1))
    feature = place.flatmap(lambda at: st.tuples(st.just(at[0]), st.just(at[1]), st.integers(0, 4)))
    features = sorted(draw(st.sets(feature, max_size=8)))
    errors = sorted(draw(st.sets(place, max_size=8)))
    rows = len(features) + n_targets
    columns = len(features) + len(errors) + n_positions
    cells = draw(st.lists(floats, min_size=rows * columns, max_size=rows * columns))
    weights = np.array(cells, dtype=np.float32).reshape(rows, columns)
    for row, (layer, *_) in enumerate(features):
        too_high = [source[0] >= layer for source in [*features, *errors]]
        weights[row, : len(too_high)][too_high] = 0
    names = st.lists(texts, min_size=n_targets, max_size=n_targets)
    return AttributionGraph(
        prompt=draw(texts),
        tokens=tuple(draw(st.lists(texts, min_size=n_positions, max_size=n_positions))),
        token_ids=np.arange(n_positions),
        features=np.array(features).reshape(-1, 3),
        activations=np.linspace(0.1, 3, len(features)),
        errors=np.array(errors).reshape(-1, 2),
        targets=tuple(draw(names)),
        target_ids=np.array([-1, 7, 0][:n_targets]),
        target_probabilities=np.array([0.5, 0.3, 0.1][:n_targets]),
        weights=weights,
        n_layers=n_layers,
        n_active=len(features) + 3,
        provenance={"model": "toy", "nested": [1, {"a": None}]},
    )


def assert_same(first: AttributionGraph, second: AttributionGraph) -> None:
    for name in ("prompt", "tokens", "targets", "n_layers", "n_active", "provenance"):
        assert getattr(first, name) == getattr(second, name), name
    for name in (*ARRAYS, "target_probabilities"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def toy() -> AttributionGraph:
    """Feature (0, 3, 2) and the error of layer 2 at position 3 have the same id, `0_2_3`."""
    weights = np.zeros((4, 3 + 2 + 4), dtype=np.float32)
    weights[2, [0, 3, 8]] = [1.5, -2.5, 0.1]  # into the feature of layer 3: both of that id
    weights[1, [0, 4]] = [0.25, 0.75]
    weights[3, [1, 2, 3]] = [1.0, 2.0, 3.0]
    return AttributionGraph(
        prompt="the capital of Dallas",
        tokens=("<bos>", " capital", "\n", " Dallas"),
        token_ids=np.array([0, 5, 6, 7]),
        features=np.array([(0, 3, 2), (1, 3, 9), (3, 3, 20_000)]),
        activations=np.array([0.1, 1 / 3, 7]),
        errors=np.array([(2, 3), (0, 1)][::-1]),
        targets=(' "Austin" (p=0.1)',),
        target_ids=np.array([11]),
        target_probabilities=np.array([0.9]),
        weights=weights[:, [0, 1, 2, 4, 3, 5, 6, 7, 8]],
        n_layers=4,
        n_active=3,
    )


NOTES = Annotations(
    labels={Feature(1, 3, 9): "<script>alert(1)</script>", ErrorNode(0, 1): "lost"},
    pins=(TargetNode(0), Feature(1, 3, 9), TokenNode(3)),
    supernodes=(("Texas", (Feature(1, 3, 9), Feature(3, 3, 20_000), TokenNode(3))),),
    selected=Feature(3, 3, 20_000),
    node_threshold=0.6,
)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_round_trip_is_exact(graph: AttributionGraph) -> None:
    text = json.dumps(neuronpedia.to_json(graph), allow_nan=False)
    assert_same(graph, neuronpedia.from_bytes(text.encode()).graph)


def test_annotations_survive(tmp_path: Path) -> None:
    path = neuronpedia.write(toy(), tmp_path / "graph.json", NOTES)
    graph, notes = neuronpedia.read(path)
    assert_same(toy(), graph)
    assert notes == NOTES
    assert [(s.name, len(s.features)) for s in notes.groups] == [("Texas", 2)]


def test_written_json_fits_the_published_schema() -> None:
    schema = json.loads((DATA / "attribution_graph.schema.json").read_text())
    content = neuronpedia.to_json(toy(), NOTES, scan="gemma-2-2b", source_set="set-16k")
    jsonschema.validate(content, schema)
    assert content["metadata"]["schema_version"] == 1
    assert content["metadata"]["feature_details"] == {"neuronpedia_source_set": "set-16k"}
    del content["nodes"][0]["jsNodeId"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)


def test_ids_follow_the_convention() -> None:
    nodes = neuronpedia.to_json(toy())["nodes"]
    named = {(n["feature_type"], n["node_id"]): n for n in nodes}
    assert named[ids.FEATURE, "1_9_3"]["feature"] == ids.pair(1, 9) == 64
    assert named[ids.FEATURE, "0_2_3"]["jsNodeId"] == "0_2-0"
    assert named[ids.ERROR, "0_2_3"]["feature"] == -1
    assert named[ids.TOKEN, "E_5_1"]["layer"] == "E"
    assert named[ids.TARGET, "5_11_3"]["layer"] == "5"
    assert named[ids.TARGET, "5_11_3"]["is_target_logit"]


def test_influence_is_cumulative() -> None:
    nodes = neuronpedia.to_json(toy())["nodes"]
    shares = sorted(n["influence"] for n in nodes)
    assert shares[-1] == pytest.approx(1)
    strongest = min(nodes, key=lambda n: n["influence"])
    assert (strongest["feature_type"], strongest["node_id"]) == (ids.ERROR, "0_2_3")


@given(st.integers(0, 5000), st.integers(0, 10**9))
def test_pairing_is_undone(layer: int, index: int) -> None:
    assert ids.unpair(ids.pair(layer, index)) == (layer, index)


def test_circuit_tracer_file_with_shared_ids() -> None:
    """Written by circuit-tracer 0.5.0; the second file holds what each link really joins."""
    content = json.loads((DATA / "circuit_tracer_clt.json").read_text())
    truth = json.loads((DATA / "circuit_tracer_clt.truth.json").read_text())
    names = [n["node_id"] for n in content["nodes"]]
    assert len(set(names)) < len(names)
    graph, _ = neuronpedia.read(DATA / "circuit_tracer_clt.json")
    nodes = [node_of(entry, content["nodes"]) for entry in content["nodes"]]
    for (source, target), link in zip(truth, content["links"], strict=True):
        assert graph.weight(nodes[source], nodes[target]) == np.float32(link["weight"])
    assert np.count_nonzero(graph.weights) == len(truth)
    assert graph.n_layers == 4
    assert graph.target_probabilities[0] > 0


def node_of(entry: dict[str, Any], nodes: list[dict[str, Any]]) -> Any:
    position = entry["ctx_idx"]
    if entry["feature_type"] == ids.TOKEN:
        return TokenNode(position)
    if entry["feature_type"] == ids.TARGET:
        return TargetNode([n for n in nodes if n["feature_type"] == ids.TARGET].index(entry))
    layer = int(entry["layer"])
    if entry["feature_type"] == ids.ERROR:
        return ErrorNode(layer, position)
    return Feature(layer, position, int(entry["node_id"].split("_")[1]))


def test_old_files_and_anthropics_variant() -> None:
    content = neuronpedia.to_json(toy())
    for variant in ("old", "anthropic"):
        changed = copy.deepcopy(content)
        del changed["metadata"]["schema_version"], changed["metadata"]["circuit_nb"]
        for node in changed["nodes"]:
            if node["feature_type"] == ids.FEATURE:
                layer, index, _ = node["node_id"].split("_")
                old = int(f"{layer}{int(index):05d}")
                node["feature"] = old if variant == "old" else int(index)
                node["layer"] = layer if variant == "old" else int(layer)
        graph = neuronpedia.from_json(changed).graph
        np.testing.assert_array_equal(graph.features, toy().features)
        np.testing.assert_array_equal(graph.weights, toy().weights)
        assert graph.n_layers == 4
        assert graph.provenance["scan"] == "unnamed"


@pytest.mark.parametrize(
    ("feature", "layer", "index"),
    [(ids.pair(7, 123), 7, 123), (1501234, 15, 1234), (9, 4, 9)],
)
def test_feature_index_without_a_telling_id(feature: int, layer: int, index: int) -> None:
    assert ids.feature_index("some-name", feature, layer, 3) == index


def test_links_of_foreign_files_are_told_apart() -> None:
    """Without our own mark: an error cannot reach its own layer; else the order tells."""
    content = neuronpedia.to_json(toy())
    for link in content["links"]:
        link.pop("source_type", None)
    np.testing.assert_array_equal(neuronpedia.from_json(content).graph.weights, toy().weights)


def hostile(change: Any) -> bytes:
    content = neuronpedia.to_json(toy(), NOTES)
    change(content)
    return json.dumps(content).encode()


def put(*path: Any, value: Any) -> Any:
    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c.pop("metadata"), "no 'metadata'"),
        (put("nodes", value={}), "no array 'nodes'"),
        (put("nodes", 0, value=[]), r"nodes\[0\] is no JSON object"),
        (put("nodes", 0, "ctx_idx", value=-1), "has -1 for 'ctx_idx'"),
        (put("nodes", 0, "ctx_idx", value=10**12), "for 'ctx_idx'"),
        (put("nodes", 0, "ctx_idx", value=True), "bool for 'ctx_idx'"),
        (put("nodes", 0, "layer", value="99999"), "for 'layer'"),
        (put("nodes", 0, "layer", value="x"), "has layer 'x'"),
        (put("nodes", 0, "layer", value=-3), "has -3 for 'layer'"),
        (put("nodes", 0, "feature_type", value="lorsa"), "of type 'lorsa'"),
        (put("nodes", 0, "node_id", value=7), "int for 'node_id'"),
        (put("nodes", 0, "activation", value="big"), "activation is str"),
        (put("nodes", 0, "activation", value=1e300), "too large"),
        (put("nodes", 0, "feature", value=-5), "has -5 for 'feature'"),
        (lambda c: c["nodes"].append(c["nodes"][0]), "twice"),
        (lambda c: c["nodes"].append(c["nodes"][-1]), "twice"),
        (lambda c: c["links"].append({**c["links"][1], "weight": 99}), "two weights"),
        (put("links", 0, "source", value="9_9_9"), "names '9_9_9'"),
        (put("links", 0, "target", value="E_5_1"), "names 'E_5_1'"),
        (put("links", 0, "target", value=None), "where a text is needed"),
        (put("links", 0, "weight", value="1"), "weight is str"),
        (
            lambda c: c["links"].append({"source": "3_20000_3", "target": "1_9_3", "weight": 1}),
            "does not lead",
        ),
        (put("links", 0, value=3), r"links\[0\] is no JSON object"),
        (put("qParams", "pinnedIds", value=[{}]), "among the texts"),
        (put("qParams", "supernodes", value=["a"]), "no array 'supernodes'"),
        (put("metadata", "prompt_tokens", value=[1]), "among the texts"),
        (put("metadata", "circuit_nb", "n_layers", value=1), "has 1 for 'n_layers'"),
    ],
)
def test_malformed_files_are_refused(change: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        neuronpedia.from_bytes(hostile(change), "evil.json")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no graph that can be read"),
        (b"[" * 100_000, "nested too deeply|can be read"),
        (b'{"nodes": NaN}', "NaN is no number"),
        (b'{"nodes": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b"\xff\xfe{}", "can be read"),
        (b'"\\ud800"', "no JSON object"),
        (b"[" + b"[]," * 6_000_000 + b"[]]", "values"),
    ],
)
def test_hostile_bytes_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        neuronpedia.from_bytes(data)


def test_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    data = hostile(put("nodes", 1, "clerp", value="a\ud800b"))
    graph, notes = neuronpedia.from_bytes(data)
    assert notes.labels[Feature(1, 3, 9)] == "a?b"
    neuronpedia.write(graph, tmp_path / "again.json", notes)


def test_oversized_files_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    with path.open("wb") as file:
        file.truncate(strict_json.MAX_BYTES + 1)
    with pytest.raises(ValueError, match="over 100 MB"):
        neuronpedia.read(path)


def test_many_nodes_do_not_build_a_huge_matrix() -> None:
    content = neuronpedia.to_json(toy())
    like = content["nodes"][2]
    extra = range(30_000, 30_000 + math.isqrt(reading.matrix.__globals__["MAX_CELLS"]))
    content["nodes"] += [{**like, "node_id": f"3_{i}_3", "feature": ids.pair(3, i)} for i in extra]
    with pytest.raises(ValueError, match="more than fit in 1 GiB"):
        neuronpedia.from_json(content)


@pytest.mark.parametrize("length", [10_001, 200_000])
def test_long_texts_come_back_whole(length: int, tmp_path: Path) -> None:
    long = "é" * length
    graph = replace(toy(), prompt=long, tokens=("<bos>", long, "\n", " Dallas"), targets=(long,))
    notes = Annotations(labels={Feature(1, 3, 9): long}, supernodes=((long, (Feature(1, 3, 9),)),))
    again = neuronpedia.read(neuronpedia.write(graph, tmp_path / "graph.json", notes))
    assert_same(graph, again.graph)
    assert again.annotations == notes


def test_repeated_targets_come_back() -> None:
    graph = toy()
    graph = replace(
        graph,
        targets=(" Austin",) * 3,
        target_ids=[11, 11, -1],
        target_probabilities=[0.9, 0.9, 0.9],
        weights=graph.weights[[0, 1, 2, 3, 3, 3]] * np.array([[1], [1], [1], [1], [2], [3]]),
    )
    content = neuronpedia.to_json(graph)
    names = [n["node_id"] for n in content["nodes"] if n["feature_type"] == ids.TARGET]
    assert len(set(names)) == 3
    assert_same(graph, neuronpedia.from_bytes(json.dumps(content).encode()).graph)


def test_large_indices_and_provenance_like_a_link_come_back() -> None:
    place = np.array([(0, 3, 2), (1, 3, 9), (3, 3, 2**53 - 1)])
    link = {"source": "a", "target": "b", "weight": 1}
    for note in (link, {"a": link}, {**link, "source_type": "c"}, {**link, "more": 1}):
        graph = replace(toy(), features=place, provenance=note)
        text = json.dumps(neuronpedia.to_json(graph))
        assert_same(graph, neuronpedia.from_bytes(text.encode()).graph)


def test_a_graph_too_large_for_any_reader_is_not_written(tmp_path: Path) -> None:
    from test_graph import random_graph

    graph = random_graph(n_layers=12, positions=40, n_features=1300, n_targets=900)
    assert np.count_nonzero(graph.weights) > 1.9e6
    with pytest.raises(ValueError, match="Prune it first"):
        neuronpedia.write(graph, tmp_path / "graph.json")
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        neuronpedia.read(tmp_path / "none.json")
