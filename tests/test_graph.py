"""The graph as data: shapes, node identity, saving and loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuit_nb.graph import (
    SCHEMA_VERSION,
    AttributionGraph,
    ErrorNode,
    Feature,
    Supernode,
    TargetNode,
    TokenNode,
)


def random_graph(
    seed: int = 0,
    *,
    n_layers: int = 3,
    positions: int = 4,
    n_features: int = 12,
    n_targets: int = 2,
) -> AttributionGraph:
    """A graph whose edges climb layers and never go back in position, with random weights."""
    rng = np.random.default_rng(seed)
    places = np.indices((n_layers, positions, 5)).reshape(3, -1).T
    picked = np.sort(rng.choice(len(places), n_features, replace=False))
    features = places[picked]
    errors = np.indices((n_layers, positions)).reshape(2, -1).T
    weights = rng.normal(size=(n_features + n_targets, n_features + len(errors) + positions))
    layer = np.r_[features[:, 0], [n_layers] * n_targets]
    position = np.r_[features[:, 1], [positions - 1] * n_targets]
    source_layer = np.r_[features[:, 0], errors[:, 0], [-1] * positions]
    source_position = np.r_[features[:, 1], errors[:, 1], np.arange(positions)]
    weights *= source_layer < layer[:, None]
    weights *= source_position <= position[:, None]
    return AttributionGraph(
        prompt="a prompt",
        tokens=("<bos>", *(f" t{i}" for i in range(1, positions))),
        token_ids=np.arange(positions),
        features=features,
        activations=rng.uniform(0.1, 2, n_features),
        errors=errors,
        targets=tuple(f" out{i}" for i in range(n_targets)),
        target_ids=np.arange(n_targets),
        target_probabilities=np.full(n_targets, 0.9 / n_targets),
        weights=weights,
        n_layers=n_layers,
        n_active=n_features,
    )


text = st.text(max_size=12)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    prompt=text,
    token=text,
    target=text,
    note=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    ),
)
def test_saved_graphs_come_back_the_same(
    seed: int, prompt: str, token: str, target: str, note: Any, tmp_path_factory: Any
) -> None:
    from dataclasses import replace

    graph = random_graph(seed)
    graph = replace(
        graph,
        prompt=prompt,
        tokens=("\n", token, "<bos>", ""),
        targets=(target, " x"),
        provenance={"note": note},
    )
    path = tmp_path_factory.mktemp("graphs") / "g.safetensors"
    back = AttributionGraph.load(graph.save(path))
    for name in ("prompt", "tokens", "targets", "n_layers", "n_active", "provenance"):
        assert getattr(back, name) == getattr(graph, name)
    for name in ("features", "activations", "errors", "token_ids", "target_ids", "weights"):
        np.testing.assert_array_equal(getattr(back, name), getattr(graph, name))


def test_an_error_and_a_feature_never_share_an_identity() -> None:
    # In files `0_2_3` is both the error of layer 2 at position 3 and feature 2 of layer 0 there.
    feature, error = Feature(0, 3, 2), ErrorNode(2, 3)
    assert feature != error
    assert len({feature, error, TokenNode(3), TargetNode(3)}) == 4


@given(st.integers(0, 2**31))
def test_every_node_has_its_own_number(seed: int) -> None:
    graph = random_graph(seed)
    assert len(set(graph.nodes)) == graph.n_nodes
    assert [graph.number(node) for node in graph.nodes] == list(range(graph.n_nodes))


def test_inputs_outputs_and_single_edges_are_the_weights() -> None:
    graph = random_graph()
    source, target = graph.nodes[1], TargetNode(1)
    assert graph.weight(source, target) == graph.weights[-1, 1]
    np.testing.assert_array_equal(graph.inputs(target), graph.weights[-1])
    np.testing.assert_array_equal(graph.outputs(source), graph.weights[:, 1])
    assert not graph.inputs(TokenNode(0)).any()
    assert not graph.outputs(target).any()
    assert graph.weight(target, source) == 0
    with pytest.raises(ValueError, match="not in this graph"):
        graph.number(Feature(9, 9, 9))


def test_shapes_that_do_not_fit_are_refused() -> None:
    from dataclasses import replace

    graph = random_graph()
    with pytest.raises(ValueError, match=r"weights has shape \(14, 27\), expected \(14, 28\)"):
        replace(graph, weights=graph.weights[:, 1:])


def test_numbers_that_are_not_finite_are_refused() -> None:
    from dataclasses import replace

    weights = random_graph().weights.copy()
    weights[3, 3] = np.nan
    with pytest.raises(ValueError, match="weights hold NaN"):
        replace(random_graph(), weights=weights)


def test_supernodes_take_tuples_and_refuse_emptiness() -> None:
    assert Supernode("Texas", [(1, 2, 3)]).features == (Feature(1, 2, 3),)
    with pytest.raises(ValueError, match="'Texas' has no features"):
        Supernode("Texas", [])


def _header(path: Path, change: Any) -> Path:
    """Rewrite a graph file's header."""
    from safetensors.numpy import load_file, save_file

    graph = random_graph()
    graph.save(path)
    arrays = load_file(path)
    fields = ("prompt", "tokens", "targets", "n_layers", "n_active", "provenance")
    header = {"schema_version": SCHEMA_VERSION, **{f: getattr(graph, f) for f in fields}}
    save_file(arrays, path, metadata={"circuit_nb": json.dumps(change(header))})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: {**h, "schema_version": 99}, "schema 99.*Upgrade"),
        (lambda h: {k: v for k, v in h.items() if k != "tokens"}, "lacks tokens"),
        (lambda h: [1, 2], "no attribution graph"),
        (lambda h: {k: v for k, v in h.items() if k != "schema_version"}, "no attribution graph"),
    ],
)
def test_other_headers_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        AttributionGraph.load(_header(tmp_path / "g.safetensors", change))


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    path = random_graph().save(tmp_path / "g.safetensors")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"g\.safetensors is not a readable"):
        AttributionGraph.load(path)
    path.write_bytes(b"not a graph")
    with pytest.raises(ValueError, match=r"g\.safetensors is not a readable"):
        AttributionGraph.load(path)
    with pytest.raises(FileNotFoundError, match="No graph file"):
        AttributionGraph.load(tmp_path / "none.safetensors")
