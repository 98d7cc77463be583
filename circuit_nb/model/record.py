"""One recorded forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from weakref import WeakMethod

import torch
from torch import Tensor

from circuit_nb.graph import Feature

_WIDE = 2**32
"""More than any layer has features."""


@dataclass(frozen=True)
class Record:
    """One forward pass: everything the linear model of a prompt is made of.

    Tensors carry no gradient. What belongs to a layer is on that layer's device, everything else
    on the model's. n is the number of active features, those of the ignored prefix left out.
    """

    prompt: str
    token_ids: Tensor
    """(positions,)."""
    ignored: int
    """Number of positions at the start whose features and errors are left out."""
    patterns: tuple[Tensor, ...]
    """Attention patterns by layer, each (heads, query, key)."""
    scales: dict[str, Tensor]
    """Norm denominators by hook name, each (positions, 1)."""
    embeddings: Tensor
    """(positions, d_model), as they enter the first block (without position embeddings)."""
    reads: tuple[Tensor, ...]
    """What the transcoders read, by layer, each (positions, d_model)."""
    writes: tuple[Tensor, ...]
    """What the transcoders reconstruct, by layer, each (positions, d_model)."""
    features: Tensor
    """(n, 3), rows (layer, position, index) in ascending order."""
    activations: Tensor
    """(n,)."""
    next_logits: Tensor
    """(vocab,), at the last position, after the model's softcap if it has one."""
    final: Tensor
    """What is unembedded, (positions, d_model)."""
    unembedded_by: WeakMethod[Callable[[Tensor], Tensor]] = field(repr=False)
    """From `final` to logits, as long as the model is there; it is not kept alive."""
    cut: Tensor | None = None
    """(positions,), where features are chosen among all layers (`Transcoders.cut`)."""

    @cached_property
    def logits(self) -> Tensor:
        """(positions, vocab). Computed when asked for: with a large vocabulary they can take as
        much memory as everything else here.

        Raises:
            RuntimeError: If the model they would be computed by is gone.
        """
        unembed = self.unembedded_by()
        if unembed is None:
            raise RuntimeError(
                "Logits of all positions are computed by the model, which is gone; ask for "
                "record.logits while you have it. record.next_logits, of the last, is kept."
            )
        return unembed(self.final)

    @property
    def positions(self) -> int:
        """Length of the prompt in tokens."""
        return len(self.token_ids)

    def check_position(self, position: int) -> None:
        """Raise `ValueError` unless the prompt has such a position."""
        if not 0 <= position < self.positions:
            raise ValueError(
                f"Position {position} does not exist in this prompt of {self.positions} tokens; "
                f"positions are 0 to {self.positions - 1}."
            )

    def activations_of(self, features: Sequence[Feature]) -> Tensor:
        """Activations of features as this pass found them, (features,); 0 where one is off."""
        rows = self.features
        wanted = torch.tensor([(f.layer, f.position, f.index) for f in features])
        if not len(rows) or not len(features):
            return torch.zeros(len(features), device=rows.device)
        known, keys = (
            (t[:, 0] * self.positions + t[:, 1]) * _WIDE + t[:, 2]
            for t in (rows, wanted.to(rows.device))
        )
        # The rows ascend, so each feature is where it would be put in.
        found = torch.searchsorted(known, keys).clamp(max=len(known) - 1)
        return self.activations[found].float() * (known[found] == keys)

    def cut_at(self, positions: Tensor) -> Tensor | None:
        """What features must reach at positions where they are chosen among all layers.

        That of the unmodified prompt: a changed pass does not know its later layers yet. Tokens
        that are generated have that of the last position.
        """
        if self.cut is None:
            return None
        return self.cut[positions.clamp(max=self.positions - 1).to(self.cut.device)]

    @property
    def prefix(self) -> int:
        """How many positions at the start have nothing but tokens to explain, and none to ask for.

        These are the ignored ones, but never all: what comes next is asked for at the last.
        """
        return min(self.ignored, self.positions - 1)


def check_finite(record: Record) -> None:
    """Refuse a pass that cannot be explained.

    Raises:
        ValueError: If it produced NaN or infinity; it says where first.
    """
    stages = [
        *((f"the MLP of layer {i}", w) for i, w in enumerate(record.writes)),
        ("the transcoders", record.activations),
        ("the last layer", record.final),
        ("the logits", record.next_logits),
    ]
    for where, tensor in stages:
        # Least and greatest are NaN where anything is; unlike `isfinite`, this makes no copies.
        if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise ValueError(
                f"The pass produced NaN or infinity in {where}: the weights are damaged, or "
                f"{tensor.dtype} is too narrow for this model (try dtype=torch.float32)."
            )
