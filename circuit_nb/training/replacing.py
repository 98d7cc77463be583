"""A model whose MLPs are replaced by what their transcoders say, at the tokens that count."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor

from circuit_nb.model.replacement import Hook, ReplacementModel
from circuit_nb.training.sequences import Batch


class Reconstruction:
    """What a set makes of what the MLPs read, during one pass.

    Args:
        model: The model with its transcoders.
        counted: Where MLPs are replaced, (sequences, positions).
        replaced: At which layers.
    """

    def __init__(self, model: ReplacementModel, counted: Tensor, replaced: Collection[int]) -> None:
        self._model, self._counted, self._replaced = model, counted, replaced
        self._written: dict[int, Tensor] = {}

    @property
    def hooks(self) -> list[Hook]:
        """To be used in a pass."""
        t = self._model.transcoders
        found: list[Hook] = []
        for block in self._model.blocks:
            if block.layer in self._replaced or t.cross_layer:
                found.append((block.hook(t.input_hook), partial(self._read, layer=block.layer)))
            if block.layer in self._replaced:
                found.append((block.hook(t.output_hook), partial(self._write, layer=block.layer)))
        return found

    def _read(self, tensor: Tensor, hook: Any, layer: int) -> None:
        for target, part in reconstruct(self._model, layer, tensor[self._counted]).items():
            self._written[target] = self._written.get(target, 0) + part

    def _write(self, tensor: Tensor, hook: Any, layer: int) -> Tensor:
        changed = tensor.clone()
        changed[self._counted] = self._written[layer].to(tensor.dtype)
        return changed


def reconstruct(model: ReplacementModel, layer: int, x: Tensor) -> dict[int, Tensor]:
    """What the features reading at a layer write, by the layer they write to.

    Args:
        model: The model with its transcoders.
        layer: The layer.
        x: What its features read, (tokens, d_model).

    Returns:
        (tokens, d_model) each; at the layer itself with bias and skip path.
    """
    t = model.transcoders
    own = t.layers[layer]
    active = own.activate(own.pre_activations(x))
    fired = (active != 0).any(0).nonzero()[:, 0]
    rows = own.decoder.rows(fired).to(active.dtype)
    parts = {target: active[:, fired] @ rows[:, j] for j, target in enumerate(t.writes(layer))}
    parts[layer] = parts[layer] + own.b_dec + own.skip(x)
    return parts


@torch.no_grad()
def logits_under(model: ReplacementModel, batch: Batch, replaced: Collection[int]) -> Tensor:
    """Logits (sequences, positions, vocab) with the MLPs of some layers replaced."""
    counted = batch.counted.to(model.device)
    under = Reconstruction(model, counted, replaced)
    return model.run(batch.token_ids.to(model.device), under.hooks if replaced else ())
