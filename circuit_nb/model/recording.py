"""Running a model once with everything kept that attribution and interventions need."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

import torch
from torch import Tensor

from circuit_nb.model.passes import Hook
from circuit_nb.model.record import Record, check_finite

if TYPE_CHECKING:
    from circuit_nb.model.replacement import ReplacementModel


def record_pass(model: ReplacementModel, ids: Tensor, text: str) -> Record:
    """The record of one pass.

    Args:
        model: The model.
        ids: (positions,).
        text: The prompt as text.

    Raises:
        ValueError: If the pass produced NaN or infinity.
    """
    n_layers, t = len(model.blocks), model.transcoders
    seen: dict[str, Tensor] = {}
    active: list[Tensor] = [torch.empty(0)] * n_layers
    values: list[Tensor] = [torch.empty(0)] * n_layers
    ignored = model.ignored_positions(ids)

    # Hooks are told their canonical name, which can differ from the alias asked for.
    def keep(tensor: Tensor, hook: Any, name: str) -> None:
        seen[name] = tensor[0].detach()

    def encode(tensor: Tensor, hook: Any, layer: int) -> None:
        acts = t.layers[layer].activate(t.layers[layer].pre_activations(tensor[0]))
        acts[:ignored] = 0
        where = acts.nonzero()
        found = torch.cat([torch.full_like(where[:, :1], layer), where], dim=1)
        active[layer] = found.to(ids.device)
        values[layer] = acts[where[:, 0], where[:, 1]].to(ids.device)

    reads = [block.hook(t.input_hook) for block in model.blocks]
    writes = [block.hook(t.output_hook) for block in model.blocks]
    patterns = [block.hook("pattern") for block in model.blocks]
    scales = [n.hook for block in model.blocks for n in block.norms] + [model.final_norm.hook]
    names = {"hook_embed", "ln_final.hook_out", *reads, *writes, *patterns, *scales}
    hooks: list[Hook] = [(name, partial(keep, name=name)) for name in names]
    hooks += [(name, partial(encode, layer=layer)) for layer, name in enumerate(reads)]
    logits = model.run(ids[None], hooks, last_only=True)
    record = Record(
        prompt=text,
        token_ids=ids,
        ignored=ignored,
        patterns=tuple(seen[name] for name in patterns),
        scales={name: seen[name].float() for name in scales},
        embeddings=seen["hook_embed"],
        reads=tuple(seen[name] for name in reads),
        writes=tuple(seen[name] for name in writes),
        features=torch.cat(active),
        activations=torch.cat(values),
        next_logits=logits[0, -1],
        final=seen["ln_final.hook_out"],
        unembedded_by=WeakMethod(model.unembed),
    )
    check_finite(record)
    return record
