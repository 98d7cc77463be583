"""A model whose MLPs are replaced by what their transcoders say, at the tokens that count."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor

from circuit_nb.model.replacement import Hook, ReplacementModel
from circuit_nb.training.mlps import read
from circuit_nb.training.sequences import Batch


class Reconstruction:
    """What a set makes of what the MLPs read, during one pass.

    Args:
        model: The model with its transcoders.
        counted: Where MLPs are replaced, (sequences, positions).
        replaced: At which layers.
        cut: `Transcoders.cut` of the counted tokens, as the model itself reads them.
    """

    def __init__(
        self,
        model: ReplacementModel,
        counted: Tensor,
        replaced: Collection[int],
        cut: Tensor | None = None,
    ) -> None:
        self._model, self._counted, self._replaced, self._cut = model, counted, replaced, cut
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
        x = tensor[self._counted]
        for target, part in reconstruct(self._model, layer, x, self._cut).items():
            self._written[target] = self._written.get(target, 0) + part

    def _write(self, tensor: Tensor, hook: Any, layer: int) -> Tensor:
        changed = tensor.clone()
        changed[self._counted] = self._written[layer].to(tensor.dtype)
        return changed


def reconstruct(
    model: ReplacementModel, layer: int, x: Tensor, cut: Tensor | None = None
) -> dict[int, Tensor]:
    """What the features reading at a layer write, by the layer they write to.

    Args:
        model: The model with its transcoders.
        layer: The layer.
        x: What its features read, (tokens, d_model).
        cut: `Transcoders.cut` of these tokens, (tokens,).

    Returns:
        (tokens, d_model) each; at the layer itself with bias and skip path.
    """
    t = model.transcoders
    own = t.layers[layer]
    active = own.activate(own.pre_activations(x), cut)
    fired = (active != 0).any(0).nonzero()[:, 0]
    rows = own.decoder.rows(fired).to(active.dtype)
    parts = {target: active[:, fired] @ rows[:, j] for j, target in enumerate(t.writes(layer))}
    parts[layer] = parts[layer] + own.b_dec + own.skip(x)
    return parts


@torch.no_grad()
def logits_under(model: ReplacementModel, batch: Batch, replaced: Collection[int]) -> Tensor:
    """Logits (sequences, positions, vocab) with the MLPs of some layers replaced."""
    counted, t = batch.counted.to(model.device), model.transcoders
    cut = None
    if replaced and t.joint_k is not None:  # Where layers are replaced the later are not known.
        cut = t.cut(read(model, batch, t.input_hook, t.output_hook)[0])
    under = Reconstruction(model, counted, replaced, cut)
    return model.run(batch.token_ids.to(model.device), under.hooks if replaced else ())
