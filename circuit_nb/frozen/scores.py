"""One head's attention scores as a bilinear map of the residual stream.

Before the softmax, and before Gemma-2's soft cap, the score of a query for a key is the product of
two vectors, each an affine function of the stream where it enters the block once denominators are
fixed: the norm's, that of Qwen3's and Gemma-3's query and key norms, and rotary positions applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from circuit_nb.model.architecture import Norm, norm_of
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import Hook, ReplacementModel


@dataclass(frozen=True)
class Side:
    """How a head makes queries, or keys, of the residual stream: an affine map at each position.

    Vectors are (…, positions, d_model) and (…, positions, d_head), for all positions of the prompt.
    """

    norm: Norm
    scale: Tensor
    """Denominators of the norm, (positions, 1)."""
    norm_bias: Tensor | None
    weight: Tensor
    """(d_model, d_head)."""
    bias: Tensor | None
    """(d_head,)."""
    factor: Tensor
    """What follows by element: the head norm's weights over its denominators; ones without it."""
    rotary: tuple[Tensor, Tensor] | None
    """Cosines and sines, (positions, rotary dimensions)."""

    def __call__(self, x: Tensor) -> Tensor:
        """The linear part."""
        return self._rotated(self.norm(x, self.scale) @ self.weight * self.factor)

    def transpose(self, v: Tensor) -> Tensor:
        """The transpose of the linear part."""
        back = self._rotated(v, back=True) * self.factor @ self.weight.T
        return self.norm.transpose(back, self.scale)

    def constant(self) -> Tensor:
        """What biases make of no stream at all, (positions, d_head)."""
        found = torch.zeros(self.weight.shape[1], device=self.weight.device)
        if self.norm_bias is not None:
            found = found + self.norm_bias @ self.weight
        if self.bias is not None:
            found = found + self.bias
        return self._rotated(found * self.factor.expand(len(self.scale), -1))

    def _rotated(self, v: Tensor, *, back: bool = False) -> Tensor:
        """Rotary positions applied, or the transpose of that."""
        if self.rotary is None:
            return v
        cos, sin = self.rotary
        turned, rest = v.split([cos.shape[1], v.shape[-1] - cos.shape[1]], dim=-1)
        a, b = (turned * sin if back else turned).chunk(2, dim=-1)
        swapped = torch.cat([b, -a], dim=-1) if back else torch.cat([-b, a], dim=-1) * sin
        return torch.cat([turned * cos + swapped, rest], dim=-1)


@dataclass(frozen=True)
class HeadScores:
    """The scores of one head on one prompt."""

    query: Side
    key: Side
    stream: Tensor
    """The residual stream where it enters the block, (positions, d_model) in float32."""
    scaling: float
    """Factor of the product of query and key."""
    soft_cap: float | None
    """The model squashes scores to ± this; what is explained is before that."""
    recorded: Tensor
    """Scores of the run, (queries, keys), the cap undone; -inf where a query cannot see a key."""


def head_scores(model: ReplacementModel, record: Record, layer: int, head: int) -> HeadScores:
    """Run the prompt once more, and read what one head's scores are made of."""
    block: Any = cast("Any", model.bridge).blocks[layer]
    attention, seen = block.attn, dict[str, Tensor]()
    prefix = f"blocks.{layer}.attn"
    has = attention.submodules
    names = [f"{prefix}.hook_attn_scores", f"blocks.{layer}.ln1.hook_in"]
    rotary = f"{prefix}.hook_cos" in model.bridge.hook_dict
    names += [f"{prefix}.hook_cos", f"{prefix}.hook_sin"] if rotary else []
    names += [f"{prefix}.{n}.hook_scale" for n in ("q_norm", "k_norm") if n in has]

    def keep(x: Tensor, hook: Any, name: str) -> None:
        seen[name] = x[0].float()

    hooks: list[Hook] = [(name, partial(keep, name=name)) for name in names]
    model.run(record.token_ids[None], hooks, last_only=True)
    cos_sin = (seen[f"{prefix}.hook_cos"], seen[f"{prefix}.hook_sin"]) if rotary else None
    norm_bias = getattr(block.ln1, "bias", None)

    def side(letter: str) -> Side:
        weights, biases = (getattr(attention, f"{kind}_{letter.upper()}") for kind in "Wb")
        number = head * len(weights) // len(attention.W_Q)
        factor = torch.ones(1, 1, device=weights.device)
        if f"{letter}_norm" in has:
            norm = norm_of(getattr(attention, f"{letter}_norm"), "")
            factor = norm.weight.float() / seen[f"{prefix}.{letter}_norm.hook_scale"][number]
        return Side(
            norm=model.blocks[layer].attention_norm,
            scale=record.scales[model.blocks[layer].attention_norm.hook],
            norm_bias=None if norm_bias is None else norm_bias.float(),
            weight=weights[number].float(),
            bias=None if biases is None else biases[number].float(),
            factor=factor,
            rotary=cos_sin,
        )

    module = attention.original_component
    cap = getattr(module, "attn_logit_softcapping", None)
    scores = seen[f"{prefix}.hook_attn_scores"][head].double()
    visible = scores > torch.finfo(torch.float16).min
    return HeadScores(
        side("q"),
        side("k"),
        stream=seen[f"blocks.{layer}.ln1.hook_in"],
        scaling=float(module.scaling),
        soft_cap=None if cap is None else float(cap),
        recorded=torch.where(visible, cap * (scores / cap).atanh() if cap else scores, -torch.inf),
    )
