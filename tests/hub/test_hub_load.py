"""`load` by Hub ids, from the stand-in for the Hub, agrees with circuit-tracer's golden figures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from clt_forge import write
from families import GOLDEN
from hub_server import COMMIT, HubState, point_client_at, serve
from safetensors.numpy import load_file, save

from circuit_nb import attribute, load

Arrays = dict[str, np.ndarray[Any, Any]]
Files = dict[str, bytes]


def golden_files(case: str) -> tuple[dict[str, Any], list[Arrays]]:
    """Config and tensors by layer of a golden set; a CLT's encoder and decoder joined."""
    folder = GOLDEN / case / "transcoders"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    if config["model_kind"] == "transcoder_set":
        return config, [load_file(folder / f"layer_{i}.safetensors") for i in range(4)]
    return config, [
        {
            **load_file(folder / f"W_enc_{i}.safetensors"),
            **load_file(folder / f"W_dec_{i}.safetensors"),
        }
        for i in range(4)
    ]


def as_published(case: str) -> tuple[str, dict[str, Files]]:
    """circuit-tracer's own layout, with dashboards beside it that nobody needs."""
    folder = GOLDEN / case / "transcoders"
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    return "ann/set", {"ann/set": {**files, "features/index.json.gz": b"x" * 10_000}}


def in_a_folder(case: str) -> tuple[str, dict[str, Files]]:
    _, repos = as_published(case)
    inner = {f"transcoder_all/width_16k/{name}": data for name, data in repos["ann/set"].items()}
    return "ann/set/transcoder_all/width_16k@main", {"ann/set": inner}


def gemma_scope(case: str) -> tuple[str, dict[str, Files]]:
    """Gemma Scope: npz files of another repository, encoders transposed, listed by hf:// names."""
    config, layers = golden_files(case)
    files: Files = {}
    for i, tensors in enumerate(layers):
        file = io.BytesIO()
        np.savez(
            file,
            W_enc=tensors["W_enc"].T,
            W_dec=tensors["W_dec"],
            b_enc=tensors["b_enc"],
            b_dec=tensors["b_dec"],
            threshold=tensors["activation_function.threshold"],
        )
        files[f"layer_{i}/width_16k/average_l0_{60 + i}/params.npz"] = file.getvalue()
    return "ann/set", listed(config, files)


def gemma_scope_2(case: str) -> tuple[str, dict[str, Files]]:
    """Gemma Scope 2: safetensors, lower-case names, encoders transposed; PLT or CLT."""
    config, layers = golden_files(case)
    files: Files = {}
    for i, t in enumerate(layers):
        tensors = {
            "w_enc": t.get("W_enc", t.get(f"W_enc_{i}")).T,
            "w_dec": t.get("W_dec", t.get(f"W_dec_{i}")),
            "b_enc": t.get("b_enc", t.get(f"b_enc_{i}")),
            "b_dec": t.get("b_dec", t.get(f"b_dec_{i}")),
        }
        threshold = t.get("activation_function.threshold", t.get(f"threshold_{i}"))
        if threshold is not None:
            tensors["threshold"] = threshold
        if config["model_kind"] == "cross_layer_transcoder":
            unused = np.full((len(tensors["w_dec"]), i, 32), 7, dtype=np.float32)
            tensors["w_dec"] = np.concatenate([unused, tensors["w_dec"]], axis=1)
        contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        files[f"transcoder/layer_{i}_width_16k/params.safetensors"] = save(contiguous)
    return "ann/set", listed(config, files)


def listed(config: dict[str, Any], files: Files) -> dict[str, Files]:
    names = [f"hf://goo/weights/{name}?revision=main" for name in files]
    text = yaml.safe_dump({**config, "transcoders": names})
    return {"goo/weights": files, "ann/set": {"config.yaml": text.encode()}}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubState]:
    with serve() as state:
        point_client_at(state, tmp_path / "cache", monkeypatch)
        yield state


@pytest.mark.parametrize(
    ("case", "layout"),
    [
        ("gemma2-plt", as_published),
        ("gemma2-clt", as_published),
        ("llama-plt-skip", as_published),
        ("gemma2-clt", in_a_folder),
        ("gemma2-plt", gemma_scope),
        ("gemma2-plt", gemma_scope_2),
        ("gemma2-clt", gemma_scope_2),
    ],
)
def test_served_sets_agree_with_the_golden_figures(
    served: HubState, case: str, layout: Any
) -> None:
    spec, repos = layout(case)
    served.repos |= repos
    folder = GOLDEN / case / "model"
    served.repos["ann/model"] = {p.name: p.read_bytes() for p in folder.iterdir()}
    model = load("ann/model", spec, device="cpu")
    assert not served.downloads("index.json.gz")

    data = load_file(GOLDEN / case / "golden.safetensors")
    graph = attribute(
        model, "<bos> the capital of the state containing Dallas is", max_logits=5,
        logit_mass=0.9, max_features=None, progress=False,
    )  # fmt: skip
    n_targets, n_nodes = len(graph.targets), len(data["full.adjacency"])
    rows = np.r_[0 : len(graph.features), n_nodes - n_targets : n_nodes]
    expected = data["full.adjacency"][rows][:, : n_nodes - n_targets]
    np.testing.assert_array_equal(graph.features, data["full.active_features"])
    assert np.abs(graph.weights - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_set_that_sparsify_wrote(served: HubState) -> None:
    """A folder a layer and no config.yaml; its other hook points are not fetched."""
    written = GOLDEN.parent / "data" / "sparsify"
    files = {
        f"{path.parent.name}/{path.name}": path.read_bytes() for path in written.glob("layers.*/*")
    }
    served.repos["ann/set"] = {**files, "layers.0/sae.safetensors": b"x" * 5000}
    model = load(GOLDEN / "llama-plt-skip" / "model", "ann/set", device="cpu")
    assert model.transcoders.n_layers == 4 and model.transcoders.layers[0].rectified
    assert model.transcoders.revision == COMMIT
    assert len(served.downloads(".mlp/sae.safetensors")) == 4
    assert not served.downloads("layers.0/sae.safetensors")


def test_a_set_that_clt_forge_wrote(served: HubState, tmp_path: Path) -> None:
    """All layers in one file; nothing else of the repository is fetched."""
    write(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    served.repos["ann/set"] = {**files, "optimizer.safetensors": b"x" * 5000}
    model = load(GOLDEN / "llama-plt-skip" / "model", "ann/set", device="cpu")
    assert model.transcoders.n_layers == 4 and model.transcoders.cross_layer
    assert model.transcoders.revision == COMMIT
    assert len(served.downloads("clt_weights.safetensors")) == 1
    assert not served.downloads("optimizer.safetensors")


def test_a_set_that_llamascopium_wrote(served: HubState) -> None:
    written = GOLDEN.parent / "data" / "llamascopium" / "jumprelu"
    files = {path.name: path.read_bytes() for path in written.iterdir()}
    served.repos["ann/set"] = {f"clt/{name}": content for name, content in files.items()}
    model = load(GOLDEN / "llama-plt-skip" / "model", "ann/set/clt", device="cpu")
    assert model.transcoders.n_layers == 4 and model.transcoders.cross_layer
    assert model.transcoders.revision == COMMIT
    assert len(served.downloads("sae_weights.safetensors")) == 1
    assert not served.downloads("expected.safetensors")


def test_a_damaged_layer_is_named(served: HubState) -> None:
    spec, repos = as_published("gemma2-plt")
    served.repos |= repos
    served.repos["ann/set"]["layer_2.safetensors"] = repos["ann/set"]["layer_2.safetensors"][:-8]
    with pytest.raises(OSError, match=r"layer_2\.safetensors of ann/set is corrupt"):
        load(GOLDEN / "gemma2-plt" / "model", spec, device="cpu")


def test_a_model_without_a_known_set_is_said(served: HubState) -> None:
    with pytest.raises(ValueError, match="No transcoder set is known for 'ann/model'"):
        load("ann/model", device="cpu")


def test_revisions_are_commits(served: HubState) -> None:
    from circuit_nb import hub

    spec, repos = gemma_scope("gemma2-plt")
    served.repos |= repos
    found = hub.transcoder_set(spec)
    assert found.revision == f"{COMMIT}; goo/weights@{COMMIT}"
    assert found.files is not None and len(found.files) == 4
