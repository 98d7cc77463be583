"""What is kept of one pass, by hooks: everything that attribution and interventions need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakMethod

import torch
from torch import Tensor

from circuit_nb.bridge.passes import Hook
from circuit_nb.model.architecture import Block, Norm
from circuit_nb.model.record import Record, check_finite
from circuit_nb.transcoders.transcoder import Transcoders


class Recording:
    """Hooks for one pass of one prompt, and what they saw.

    Args:
        blocks: The model's blocks.
        final_norm: Its last norm.
        transcoders: What its MLPs are read through.
        token_ids: The prompt, (positions,).
        ignored: How many positions at the start are ignored.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        final_norm: Norm,
        transcoders: Transcoders,
        token_ids: Tensor,
        ignored: int,
    ) -> None:
        self._transcoders, self._ids, self._ignored = transcoders, token_ids, ignored
        self._seen: dict[str, Tensor] = {}
        self._active: dict[int, tuple[Tensor, Tensor]] = {}
        self._reads = [block.hook(transcoders.input_hook) for block in blocks]
        self._writes = [block.hook(transcoders.output_hook) for block in blocks]
        self._patterns = [block.hook("pattern") for block in blocks]
        self._scales = [n.hook for block in blocks for n in block.norms] + [final_norm.hook]

    @property
    def hooks(self) -> list[Hook]:
        """To be used in the pass."""
        names = {"hook_embed", "ln_final.hook_out", *self._reads, *self._writes}
        names |= {*self._patterns, *self._scales}
        # Hooks are told their canonical name, which can differ from the alias asked for.
        keep: list[Hook] = [(name, partial(self._keep, name=name)) for name in names]
        return keep + [
            (name, partial(self._encode, layer=layer)) for layer, name in enumerate(self._reads)
        ]

    def _keep(self, tensor: Tensor, hook: Any, name: str) -> None:
        self._seen[name] = tensor[0].detach()

    def _encode(self, tensor: Tensor, hook: Any, layer: int) -> None:
        transcoder = self._transcoders.layers[layer]
        acts = transcoder.activate(transcoder.pre_activations(tensor[0]))
        acts[: self._ignored] = 0
        where = acts.nonzero()
        found = torch.cat([torch.full_like(where[:, :1], layer), where], dim=1)
        values = acts[where[:, 0], where[:, 1]]
        self._active[layer] = found.to(self._ids.device), values.to(self._ids.device)

    def record(
        self, prompt: str, next_logits: Tensor, unembed: Callable[[Tensor], Tensor]
    ) -> Record:
        """The record of the pass.

        Args:
            prompt: The prompt as text.
            next_logits: (vocab,).
            unembed: The method that makes logits of `Record.final`; it is not kept alive.

        Raises:
            ValueError: If the pass produced NaN or infinity.
        """
        seen, layers = self._seen, range(len(self._reads))
        record = Record(
            prompt=prompt,
            token_ids=self._ids,
            ignored=self._ignored,
            patterns=tuple(seen[name] for name in self._patterns),
            scales={name: seen[name].float() for name in self._scales},
            embeddings=seen["hook_embed"],
            reads=tuple(seen[name] for name in self._reads),
            writes=tuple(seen[name] for name in self._writes),
            features=torch.cat([self._active[layer][0] for layer in layers]),
            activations=torch.cat([self._active[layer][1] for layer in layers]),
            next_logits=next_logits,
            final=seen["ln_final.hook_out"],
            unembedded_by=WeakMethod(unembed),
        )
        check_finite(record)
        return record
