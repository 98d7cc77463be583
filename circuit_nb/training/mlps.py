"""What a model's MLPs read and write: the data that transcoders are trained and judged on."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import torch
from torch import Tensor

from circuit_nb import hub
from circuit_nb.bridge.opening import open_bridge
from circuit_nb.bridge.protocol import Tokenizer, parts_of
from circuit_nb.model.devices import default_device, device_of
from circuit_nb.model.padding import alike
from circuit_nb.model.replacement import Hook, ReplacementModel
from circuit_nb.training.sequences import Batch
from circuit_nb.transcoders.lazy_files import InMemory
from circuit_nb.transcoders.transcoder import LayerTranscoder, Transcoders


def open_model(
    model: Any,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    tokenizer: Tokenizer | None = None,
) -> ReplacementModel:
    """A model that has no transcoders yet: with one silent feature a layer, which changes nothing.

    Args:
        model: As for `load`; a `ReplacementModel` is taken as it is.
        device: As for `load`.
        dtype: As for `load`.
        tokenizer: As for `load`.
    """
    if isinstance(model, ReplacementModel):
        return model
    place = device_of(device) if device is not None else None
    name = ""
    if isinstance(model, (str, os.PathLike)):
        name, place = os.fspath(model), place or default_device()
        model = hub.model_source(name).folder
        dtype = dtype or torch.float32
    bridge = open_bridge(model, place, dtype, tokenizer, None)
    silent = _silent(len(parts_of(bridge).blocks), int(bridge.cfg.d_model))
    opened = ReplacementModel(bridge, silent, name=name)
    opened.place_transcoders(opened.dtype)
    return opened


def _silent(n_layers: int, d_model: int) -> Transcoders:
    def layer() -> LayerTranscoder:
        return LayerTranscoder(
            W_enc=torch.zeros(1, d_model),
            decoder=InMemory(torch.zeros(1, 1, d_model)),
            b_enc=torch.zeros(1),
            b_dec=torch.zeros(d_model),
        )

    return Transcoders(tuple(layer() for _ in range(n_layers)), "mlp.hook_in", "mlp.hook_out")


@torch.no_grad()
def read(
    model: ReplacementModel, batch: Batch, input_hook: str, output_hook: str
) -> tuple[list[Tensor], list[Tensor]]:
    """What each MLP read and wrote at the counted tokens of a batch.

    Returns:
        Inputs and outputs, each a list over layers of (tokens, d_model).
    """
    places = torch.arange(1, batch.counted.shape[1] + 1)
    ends: list[int] = (batch.counted * places).amax(1).clamp_min(1).tolist()
    found: dict[int, Tensor] = {}
    for rows in alike(ends):
        width = ends[rows[0]]
        ids, counted = batch.token_ids[rows, :width], batch.counted[rows, :width]
        values = _read(model, ids, counted, (input_hook, output_hook))
        parts = values.split(counted.sum(1).tolist(), dim=1)
        found |= dict(zip(rows, parts, strict=True))
    values = torch.cat([found[row] for row in range(len(batch.counted))], dim=1)
    half = len(model.blocks)
    return list(values[:half]), list(values[half:])


def _read(
    model: ReplacementModel, token_ids: Tensor, counted: Tensor, names: tuple[str, str]
) -> Tensor:
    """Inputs of every layer, then outputs of every layer: (2 · layers, tokens, d_model)."""
    seen: dict[tuple[str, int], Tensor] = {}

    def keep(tensor: Tensor, hook: Any, key: tuple[str, int]) -> None:
        seen[key] = tensor[counted.to(tensor.device)].to(model.device)

    hooks: list[Hook] = [
        (block.hook(name), partial(keep, key=(name, block.layer)))
        for name in names
        for block in model.blocks
    ]
    model.run(token_ids.to(model.device), hooks, last_only=True)
    return torch.stack([seen[name, block.layer] for name in names for block in model.blocks])
