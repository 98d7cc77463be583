"""Sets that CLT-Forge wrote: what they give is computed here as its `encode` and `decode` do, pair
by pair.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clt_forge import FEATURES, LAYERS, WIDTH, pairs, write
from families import GOLDEN, PROMPT
from safetensors.torch import save_file

from circuit_nb import attribute, load
from circuit_nb.transcoders.formats import open_transcoders

MODEL = GOLDEN / "llama-plt-skip" / "model"


@pytest.mark.parametrize("cross_layer", [True, False])
def test_activations_and_outputs_are_those_of_its_source(cross_layer: bool, tmp_path: Path) -> None:
    t = write(tmp_path, cross_layer=cross_layer)
    model = load(MODEL, tmp_path, device="cpu")
    ours = model.transcoders
    assert (ours.cross_layer, ours.input_hook, ours.n_layers) == (
        cross_layer, "ln2.hook_normalized", LAYERS,
    )  # fmt: skip
    x = torch.randn(7, LAYERS, WIDTH, generator=torch.Generator().manual_seed(1))
    read = x * t["estimated_norm_scaling_factor_in"][:, None]
    pre = torch.einsum("bld,ldf->blf", read, t["W_enc"]) + t["b_enc"]
    acts = pre * (pre > t["log_threshold"].exp())
    out = torch.zeros(7, LAYERS, WIDTH)
    for k, (i, j) in enumerate(pairs(cross_layer=cross_layer)):
        out[:, j] += acts[:, i] @ t["W_dec"][k] + t["b_dec"][k]
    out /= t["estimated_norm_scaling_factor_out"][:, None]

    some = torch.tensor([31, 2, 17])
    made = torch.stack([layer.b_dec.expand(7, -1) for layer in ours.layers], 1)
    for i, layer in enumerate(ours.layers):
        active = layer.activate(layer.pre_activations(x[:, i]))
        torch.testing.assert_close(active, acts[:, i], atol=1e-5, rtol=1e-5)
        rows = layer.decoder.rows(torch.arange(FEATURES))
        torch.testing.assert_close(layer.decoder.rows(some), rows[some])
        torch.testing.assert_close(layer.encoder_rows(some), layer.W_enc.whole()[some])  # type: ignore[union-attr]
        for offset, written in enumerate(ours.writes(i)):
            made[:, written] = made[:, written] + active @ rows[:, offset]
    torch.testing.assert_close(made, out, atol=1e-5, rtol=1e-5)
    graph = attribute(model, PROMPT, max_features=None, progress=False)
    assert len(graph.features) and np.isfinite(graph.weights).all()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"feature_sharding": True}, "feature_sharding"),
        ({"n_layers": "4"}, "n_layers '4'"),
        ({"n_layers": 5}, "encoders of 4 layers and 10 decoders"),
        ({"cross_layer_decoders": 1}, "true or false"),
        ({"cross_layer_decoders": False}, "cannot write to 1 layers"),
    ],
)
def test_what_does_not_fit_is_said(said: dict[str, Any], told: str, tmp_path: Path) -> None:
    write(tmp_path, **said)
    with pytest.raises(ValueError, match=told):
        open_transcoders(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("estimated_norm_scaling_factor_out", (3,)),
        ("W_dec", ()),
        ("W_dec", (10,)),
        ("W_dec", (10, FEATURES)),
        ("W_enc", (3, WIDTH, FEATURES)),
        ("b_enc", ()),
        ("b_dec", (9, WIDTH)),
        ("log_threshold", (3, FEATURES)),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    tensors = write(tmp_path)
    tensors[name] = torch.ones(shape)
    save_file(tensors, tmp_path / "clt_weights.safetensors")
    with pytest.raises(ValueError, match=r"clt_weights\.safetensors"):
        open_transcoders(tmp_path)
