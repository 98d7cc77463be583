"""A set as CLT-Forge writes it.

Its package is on no index: files are made here by its source, as `CLT.save_model` of
circuits-research/CLT-Forge does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

LAYERS, FEATURES, WIDTH = 4, 40, 32


def pairs(*, cross_layer: bool) -> list[tuple[int, int]]:
    every = [(i, j) for i in range(LAYERS) for j in range(i, LAYERS)]
    return every if cross_layer else [(i, i) for i in range(LAYERS)]


def write(folder: Path, *, cross_layer: bool = True, **said: Any) -> dict[str, Tensor]:
    """A random set; returns its tensors."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    n = len(pairs(cross_layer=cross_layer))
    tensors = {
        "W_enc": normal(LAYERS, WIDTH, FEATURES) / WIDTH**0.5,
        "b_enc": normal(LAYERS, FEATURES) / 10,
        "W_dec": normal(n, FEATURES, WIDTH) / 10,
        "b_dec": normal(n, WIDTH) / 10,
        "log_threshold": normal(LAYERS, FEATURES) / 2 - 1,
        "feature_count": torch.zeros(LAYERS, FEATURES, dtype=torch.int64),
        "estimated_norm_scaling_factor_in": 1 + torch.rand(LAYERS, generator=random),
        "estimated_norm_scaling_factor_out": 1 + torch.rand(LAYERS, generator=random),
    }
    config = {
        "device": "cuda", "dtype": "float32", "seed": 42, "model_name": "ann/model",
        "d_in": WIDTH, "d_latent": FEATURES, "n_layers": LAYERS, "feature_sharding": False,
        "cross_layer_decoders": cross_layer, "context_size": 16, **said,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "clt_weights.safetensors")
    (folder / "clt_cfg.json").write_text(json.dumps(config))
    return tensors
