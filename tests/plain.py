"""Interventions on a plain Hugging Face model, one thing after the other, without the library.

Attention weights are changed in transformers' own `eager_attention_forward`, features in hooks on
its MLPs. Nothing of `circuit_nb.intervention` and no TransformerLens is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Edit = Callable[[int, Tensor], Tensor]
"""From a layer and its attention weights (heads, query, key) to others of that shape."""


@dataclass
class Plain:
    """One pass of a Hugging Face model whose attention is computed here.

    Args:
        hf: The model, in eager attention.
        edit: Changes attention weights.
        features: (layer, position, index, value): activations to set.
        transcoders: What they are features of.
    """

    hf: Any
    edit: Edit = lambda layer, weights: weights
    features: list[tuple[int, int, int, float]] = field(default_factory=list)
    transcoders: Any = None
    patterns: list[Tensor] = field(default_factory=list)
    """Of the last pass, by layer, as they were before they were changed."""

    @torch.no_grad()
    def logits(self, ids: list[int]) -> Tensor:
        """(positions, vocab)."""
        self.hf.config._attn_implementation = "eager"
        module = sys.modules[type(self.hf).__module__]
        own, self.patterns = module.eager_attention_forward, []
        handles = [self._set(*feature) for feature in self.features]

        def attend(part: Any, query: Tensor, key: Tensor, value: Tensor, *a: Any, **k: Any) -> Any:
            weights = own(part, query, key, value, *a, **k)[1][0]
            self.patterns.append(weights)
            changed = self.edit(part.layer_idx, weights.clone())
            values = value[0].repeat_interleave(len(changed) // len(value[0]), dim=0)
            return (changed @ values).transpose(0, 1)[None], changed[None]

        try:
            module.eager_attention_forward = attend
            return self.hf(torch.tensor([ids]), use_cache=False).logits[0]
        finally:
            module.eager_attention_forward = own
            for handle in handles:
                handle.remove()

    def greedy(self, ids: list[int], count: int) -> list[Tensor]:
        """Logits (vocab,) after the prompt and after each of `count` more likeliest tokens."""
        ids, found = list(ids), []
        for _ in range(count + 1):
            found.append(self.logits(ids)[-1])
            ids.append(int(found[-1].argmax()))
        return found

    def _set(self, layer: int, position: int, index: int, value: float) -> Any:
        base = getattr(self.hf, self.hf.base_model_prefix)
        blocks = base.h if hasattr(base, "h") else base.layers
        transcoder = self.transcoders.layers[layer]
        decoder = transcoder.decoder.rows(torch.tensor([index]))[0, 0]

        def write(mlp: Any, args: tuple[Tensor], out: Tensor) -> Tensor:
            x = args[0][0, position]
            pre = float(transcoder.W_enc[index] @ x + transcoder.b_enc[index])
            now = pre if pre > float(transcoder.threshold[index]) else 0.0
            changed = out.clone()
            changed[0, position] += (value - now) * decoder
            return changed

        return blocks[layer].mlp.register_forward_hook(write)
