"""Cross-layer sets that llamascopium wrote.

`tests/data/llamascopium` was made by llamascopium 2.0.0b34 itself: random sets of four layers (16
features, d_model 32) through `save_pretrained` and `save_hyperparameters`, loaded again by its
`from_local`; `expected.safetensors` holds what its `encode` and `decode` gave on random inputs,
brought back to the model's scale. `folded` has the average norms in its weights, the others beside
them.
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
from safetensors.torch import load_file, save_file

from circuit_nb import attribute, load
from circuit_nb.transcoders.formats import open_transcoders

WRITTEN = Path(__file__).parents[1] / "data" / "llamascopium"
MODEL = GOLDEN / "llama-plt-skip" / "model"
WEIGHTS = "sae_weights.safetensors"


@pytest.mark.parametrize("name", sorted(path.name for path in WRITTEN.iterdir()))
def test_activations_and_outputs_are_those_of_its_own_code(name: str) -> None:
    expected = load_file(WRITTEN / name / "expected.safetensors")
    ours = open_transcoders(WRITTEN / name)
    assert (ours.cross_layer, ours.n_layers) == (True, 4)
    assert (ours.input_hook, ours.output_hook) == ("hook_resid_mid", "hook_mlp_out")
    x, some = expected["x"], torch.tensor([13, 2, 7])
    made = torch.stack([layer.b_dec.expand(len(x), -1) for layer in ours.layers], 1)
    cut = ours.cut([x[:, i] for i in range(4)])
    assert (cut is None) == (not name.startswith("layertopk"))
    for i, layer in enumerate(ours.layers):
        active = layer.activate(layer.pre_activations(x[:, i]), cut)
        torch.testing.assert_close(active, expected["acts"][:, i], atol=1e-5, rtol=1e-5)
        rows = layer.decoder.rows(torch.arange(16))
        own_cut = None if cut is None else cut[:, None]
        _, single = layer.of_features(x[:, i, None].expand(-1, 3, -1), some, cut=own_cut)
        torch.testing.assert_close(single, expected["acts"][:, i, some], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(layer.decoder.rows(some), rows[some])
        torch.testing.assert_close(layer.encoder_rows(some), layer.W_enc.whole()[some])  # type: ignore[union-attr]
        for offset, written in enumerate(ours.writes(i)):
            made[:, written] = made[:, written] + active @ rows[:, offset]
    torch.testing.assert_close(made, expected["out"], atol=1e-5, rtol=1e-5)


def test_graphs_are_computed_from_them() -> None:
    model = load(MODEL, WRITTEN / "jumprelu", device="cpu")
    graph = attribute(model, PROMPT, max_features=None, progress=False)
    assert len(graph.features) and np.isfinite(graph.weights).all()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"sae_type": "crosscoder"}, "sae_type 'crosscoder'; of its kinds clt"),
        ({"act_fn": "batchlayertopk"}, "convert it to jumprelu"),
        ({"act_fn": "batchtopk"}, "convert it to jumprelu"),
        ({"act_fn": "topk", "top_k": None}, "says activation: topk; add k"),
        ({"act_fn": "layertopk", "top_k": "5"}, "joint_k '5'; give a whole number"),
        ({"act_fn": "layertopk", "top_k": 5}, "neither k nor thresholds"),
        ({"norm_activation": "token-wise"}, "dataset-wise and inference are read"),
        ({"hook_points_in": None}, "hook_points_in"),
        ({"hook_points_in": ["blocks.0.hook_resid_mid"]}, "1 inputs and 4 outputs"),
        (
            {"hook_points_in": [f"blocks.{i}.hook_resid_mid" for i in (0, 2, 1, 3)]},
            "every layer from 0 on",
        ),
        (
            {
                "hook_points_in": [f"blocks.{i}.hook_resid_mid" for i in range(5)],
                "hook_points_out": [f"blocks.{i}.hook_mlp_out" for i in range(5)],
            },
            "lacks W_D.4",
        ),
        ({"hook_points_out": [f"blocks.{i}.hook_x" for i in range(4)]}, "lacks dataset_average"),
    ],
)
def test_what_does_not_fit_is_said(said: dict[str, Any], told: str, tmp_path: Path) -> None:
    shutil.copytree(WRITTEN / "jumprelu", tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **said}))
    with pytest.raises(ValueError, match=told):
        open_transcoders(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("W_E", (3, 32, 16)),
        ("W_E", ()),
        ("b_E", (4, 15)),
        ("b_D.2", (31,)),
        ("W_D.2", (2, 16, 32)),
        ("W_D.2", (0, 16, 32)),
        ("W_D.2", (3, 15, 32)),
        ("W_D.2", (3, 16)),
        ("W_D.3", (4, 16, 31)),
        ("activation_function.log_jumprelu_threshold", (4, 15)),
        ("dataset_average_activation_norm.blocks.1.hook_resid_mid", ()),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    shutil.copytree(WRITTEN / "jumprelu", tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / WEIGHTS)
    tensors[name] = torch.zeros(shape)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"sae_weights\.safetensors"):
        open_transcoders(tmp_path)


@pytest.mark.parametrize("norms", ["5", "{a: b}", "[]", "[[1], 2]", "[a]"])
def test_a_config_written_by_hand_is_read_or_refused(norms: str, tmp_path: Path) -> None:
    shutil.copy(WRITTEN / "jumprelu" / WEIGHTS, tmp_path)
    (tmp_path / "config.yaml").write_text(
        "model_kind: cross_layer_transcoder\nfeature_input_hook: hook_resid_mid\n"
        f"feature_output_hook: hook_mlp_out\ntranscoders: [{', '.join([WEIGHTS] * 4)}]\n"
        f"input_norms: {norms}\n"
    )
    if norms in ("[[1], 2]", "[a]"):
        with pytest.raises(ValueError, match="which its config"):
            open_transcoders(tmp_path)
    else:
        assert open_transcoders(tmp_path).n_layers == 4


def test_the_config_of_a_model_is_no_set(tmp_path: Path) -> None:
    shutil.copy(MODEL / "config.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no config\.yaml"):
        open_transcoders(tmp_path)
