"""Sets that EleutherAI's sparsify wrote.

`tests/data/sparsify` was made by eai-sparsify 1.3.3 itself: four random skip transcoders (k 6 of 40
features, d_model 32) through `save_to_disk`, and in `expected.safetensors` what their `forward`
gave on random inputs. At some of these fewer than k pre-activations are above zero.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import GOLDEN, PROMPT
from safetensors.torch import load_file

from circuit_nb import attribute, load
from circuit_nb.training.replacing import reconstruct
from circuit_nb.transcoders.formats import open_transcoders

WRITTEN = Path(__file__).parents[1] / "data" / "sparsify"
MODEL = GOLDEN / "llama-plt-skip" / "model"


def test_activations_and_outputs_are_those_of_their_own_code() -> None:
    expected = load_file(WRITTEN / "expected.safetensors")
    model = load(MODEL, WRITTEN, device="cpu")
    assert model.transcoders.has_skip and model.transcoders.layers[0].k == 6
    x, fewer = expected["x"], 0
    for i, layer in enumerate(model.transcoders.layers):
        active = layer.activate(layer.pre_activations(x))
        torch.testing.assert_close(active, expected[f"acts_{i}"], atol=1e-5, rtol=1e-5)
        made = reconstruct(model, i, x)[i]
        torch.testing.assert_close(made, expected[f"out_{i}"], atol=1e-5, rtol=1e-5)
        for index in range(40):
            one = layer.of_features(x, torch.full((len(x),), index))[1]
            torch.testing.assert_close(one, active[:, index], atol=1e-5, rtol=1e-5)
        fewer += int(((active != 0).sum(1) < 6).sum())
    assert fewer, "without such tokens, ReLU before TopK would make no difference"


def test_graphs_are_computed_from_them() -> None:
    graph = attribute(load(MODEL, WRITTEN, device="cpu"), PROMPT, max_features=None, progress=False)
    assert (graph.activations > 0).all() and np.isfinite(graph.weights).all()
    places, counts = np.unique(graph.features[:, :2], axis=0, return_counts=True)
    assert len(places) > 4 and counts.max() <= 6


def _changed(tmp_path: Path, layer: int = 1, **said: Any) -> Path:
    folder = tmp_path / "set"
    shutil.copytree(WRITTEN, folder)
    path = folder / f"layers.{layer}.mlp" / "cfg.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))
    return folder


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"transcode": False}, "an autoencoder"),
        ({"activation": "groupmax"}, "activation 'groupmax'; topk is read"),
        ({"k": 7}, "k 7, that of layer 0 6"),
    ],
)
def test_what_is_no_topk_transcoder_is_refused(
    said: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=told):
        open_transcoders(_changed(tmp_path, **said))


def test_k_that_cannot_be_and_layers_that_lack(tmp_path: Path) -> None:
    folder = _changed(tmp_path)
    for i in range(4):
        path = folder / f"layers.{i}.mlp" / "cfg.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "k": None}))
    with pytest.raises(ValueError, match="add k"):
        open_transcoders(folder)
    shutil.rmtree(folder / "layers.2.mlp")
    with pytest.raises(FileNotFoundError, match="layer 2"):
        open_transcoders(folder)


def test_gpt2_names_its_layers_otherwise(tmp_path: Path) -> None:
    shutil.copytree(WRITTEN, tmp_path / "set")
    for i in range(4):
        (tmp_path / "set" / f"layers.{i}.mlp").rename(tmp_path / "set" / f"h.{i}.mlp")
    ours, same = open_transcoders(tmp_path / "set"), open_transcoders(WRITTEN)
    assert [len(layer.b_enc) for layer in ours.layers] == [len(s.b_enc) for s in same.layers]
