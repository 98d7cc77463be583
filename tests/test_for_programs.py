"""A graph for programs: `to_dict` and `summary`, whose keys are a promise."""

import dataclasses
import json

import numpy as np
from made import CAPITAL, LABELS, SAY, TEXAS, small_graph

from circuit_nb import analysis
from circuit_nb.graph import Supernode


def test_a_graph_as_json_values() -> None:
    graph = small_graph()
    data = json.loads(json.dumps(graph.to_dict()))
    assert list(data) == [
        *("format", "version", "prompt", "n_layers", "n_active", "tokens", "token_ids"),
        *("nodes", "edges", "provenance"),
    ]
    assert (data["format"], data["version"]) == ("circuit-nb graph", 1)
    assert data["nodes"][0] == {
        "id": "feature-0-2-3",
        "kind": "feature",
        "layer": 0,
        "position": 2,
        "index": 3,
        "activation": 1.0,
    }
    assert data["nodes"][-2] == {
        "id": "target-0",
        "kind": "target",
        "index": 0,
        "token": " Austin",
        "token_id": 40,
        "probability": 0.9,
    }
    assert {n["token"] for n in data["nodes"] if n["kind"] == "token"} == set(graph.tokens)
    weights = np.zeros_like(graph.weights)
    row_of = {int(n): i for i, n in enumerate(graph.rows)}
    for source, target, weight in data["edges"]:
        weights[row_of[target], source] = weight
    assert np.array_equal(weights, graph.weights)


def test_a_summary_in_words_and_as_json() -> None:
    groups = [Supernode("Texas", [TEXAS]), Supernode("say Austin", [SAY])]
    kept = "These 2 of 5 features keep 90% of Austin."
    told = analysis.summary(small_graph(), labels=LABELS, groups=groups, evidence=[kept])
    data = json.loads(json.dumps(told.to_dict()))
    assert list(data) == [
        *("format", "version", "prompt", "outputs", "paths", "features", "groups", "flows"),
        *("counts", "scores", "evidence"),
    ]
    assert data["evidence"] == [kept] and str(told).endswith(kept)
    assert data["outputs"][0]["token"] == " Austin"
    assert data["paths"][0]["nodes"][0] == "' Dallas'"
    assert data["paths"][0]["nodes"][-1] == "say ' Austin'"
    assert data["features"][0]["id"] == "feature-2-5-11"
    assert data["counts"]["edges"] == 15
    # 0.8 comes directly from Texas, of 2.3 in all: 0.8 + 0.7 + 0.5 + 0.2 + 0.1
    flow = next(f for f in data["flows"] if f["from"] == "Texas")
    assert flow["to"] == "say Austin" and abs(flow["share"] - 0.8 / 2.3) < 1e-6
    words = str(told)
    assert "goes on with ' Austin' 90.0%" in words and "Texas → say Austin: +35%" in words
    assert "Texas @Dallas" in words and "Path" in words


def test_a_summary_needs_no_labels_and_no_groups() -> None:
    told = analysis.summary(small_graph())
    assert f"L{CAPITAL.layer} #{CAPITAL.index}" in str(told) and told.flows == ()


def test_a_share_that_is_small_is_not_told_as_nothing() -> None:
    told = analysis.summary(small_graph())
    (_, names), *_ = told.paths
    for share, words in ((0.0002, "under 0.1%"), (0.0, "0.0%"), (0.0321, "3.2%")):
        said = str(dataclasses.replace(told, paths=((share, names),)))
        assert f"Path, {words} of the answer" in said
