"""What is kept of one pass, by hooks: everything that attribution and interventions need.

A pass can be of several prompts, each followed by anything up to the length of the longest: what
comes later changes nothing before it.
"""

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
    """Hooks for one pass, and what they saw.

    Args:
        blocks: The model's blocks.
        final_norm: Its last norm.
        transcoders: What its MLPs are read through.
        token_ids: The prompts, each (positions,).
        ignored: How many positions at the start of each are ignored.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        final_norm: Norm,
        transcoders: Transcoders,
        token_ids: Sequence[Tensor],
        ignored: Sequence[int],
    ) -> None:
        self._transcoders, self._ids, self._ignored = transcoders, token_ids, ignored
        self._seen: dict[str, Tensor] = {}
        self._active: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._cuts: Sequence[Tensor | None] = [None] * len(token_ids)
        self._reads = [block.hook(transcoders.input_hook) for block in blocks]
        self._writes = [block.hook(transcoders.output_hook) for block in blocks]
        self._patterns = [block.hook("pattern") for block in blocks]
        self._scales = [n.hook for block in blocks for n in block.norms] + [final_norm.hook]

    @property
    def padded(self) -> Tensor:
        """What to run, (prompts, positions): each is followed by its last token, repeated."""
        longest = max(map(len, self._ids))
        return torch.stack([torch.cat([i, i[-1:].expand(longest - len(i))]) for i in self._ids])

    @property
    def hooks(self) -> list[Hook]:
        """To be used in the pass."""
        names = {"hook_embed", "ln_final.hook_out", *self._reads, *self._writes}
        names |= {*self._patterns, *self._scales}
        # Hooks are told their canonical name, which can differ from the alias asked for.
        keep: list[Hook] = [(name, partial(self._keep, name=name)) for name in names]
        if self._transcoders.joint_k is not None:
            return keep
        return keep + [
            (name, partial(self._encode_now, layer=layer)) for layer, name in enumerate(self._reads)
        ]

    def _keep(self, tensor: Tensor, hook: Any, name: str) -> None:
        self._seen[name] = tensor.detach()

    def _encode_now(self, tensor: Tensor, hook: Any, layer: int) -> None:
        self._encode(self._together(tensor), layer, None)

    def _encode_together(self) -> None:
        """Where features are chosen among all layers: none is known before the last was read."""
        reads = [self._together(self._seen[name]) for name in self._reads]
        cut = self._transcoders.cut(reads)
        assert cut is not None
        self._cuts = cut.split(list(map(len, self._ids)))
        for layer, read in enumerate(reads):
            self._encode(read, layer, cut)

    def _together(self, tensor: Tensor) -> Tensor:
        """All prompts one after another, for one product: an encoder is read once."""
        return torch.cat([part[: len(i)] for part, i in zip(tensor, self._ids, strict=True)])

    def _encode(self, read: Tensor, layer: int, cut: Tensor | None) -> None:
        transcoder, sizes = self._transcoders.layers[layer], list(map(len, self._ids))
        acts = transcoder.activate(transcoder.pre_activations(read), cut)
        self._active[layer] = []
        for own, ignored in zip(acts.split(sizes), self._ignored, strict=True):
            own[:ignored] = 0
            where = own.nonzero()
            found = torch.cat([torch.full_like(where[:, :1], layer), where], dim=1)
            values, device = own[where[:, 0], where[:, 1]], self._ids[0].device
            self._active[layer].append((found.to(device), values.to(device)))

    def records(
        self, prompts: Sequence[str], next_logits: Tensor, unembed: Callable[[Tensor], Tensor]
    ) -> list[Record]:
        """The record of each prompt.

        Args:
            prompts: The prompts as text.
            next_logits: (prompts, vocab), where the longest end.
            unembed: The method that makes logits of `Record.final`; it is not kept alive.

        Raises:
            ValueError: If the pass produced NaN or infinity.
        """
        if self._transcoders.joint_k is not None:
            self._encode_together()
        final, found = self._seen["ln_final.hook_out"], list[Record]()
        for number, (ids, prompt) in enumerate(zip(self._ids, prompts, strict=True)):
            n, logits = len(ids), next_logits[number]
            if n < final.shape[1]:
                logits = unembed(final[number, n - 1 : n])[0]
            found.append(self._record(number, prompt, logits, WeakMethod(unembed)))
        return found

    def _record(
        self,
        number: int,
        prompt: str,
        next_logits: Tensor,
        unembed: WeakMethod[Callable[[Tensor], Tensor]],
    ) -> Record:
        ids, layers = self._ids[number], range(len(self._reads))
        n = len(ids)
        seen = {name: tensor[number] for name, tensor in self._seen.items()}
        active = [self._active[layer][number] for layer in layers]
        record = Record(
            prompt=prompt,
            token_ids=ids,
            ignored=self._ignored[number],
            patterns=tuple(seen[name][:, :n, :n] for name in self._patterns),
            scales={name: seen[name][:n].float() for name in self._scales},
            embeddings=seen["hook_embed"][:n],
            reads=tuple(seen[name][:n] for name in self._reads),
            writes=tuple(seen[name][:n] for name in self._writes),
            features=torch.cat([found for found, _ in active]),
            activations=torch.cat([values for _, values in active]),
            next_logits=next_logits,
            final=seen["ln_final.hook_out"][:n],
            unembedded_by=unembed,
            cut=self._cuts[number],
        )
        check_finite(record)
        return record
