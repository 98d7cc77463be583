"""What the tokens of a prompt have in the frozen model, and where rows meet them.

A prompt has few tokens and many rows, so that tokens are carried up where that is cheaper than
carrying rows down: on a prompt that is not long through the first block's attention, below which
nothing but tokens writes; and at the positions before `Record.prefix`, where there is nothing else
in any layer, all the way, to be met where attention reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from circuit_nb.frozen import tuning
from circuit_nb.frozen.ascent import Level, Placed, ascend
from circuit_nb.frozen.block import FrozenBlock
from circuit_nb.model.record import Record


class Tokens:
    """The tokens of one recorded pass.

    Args:
        blocks: The frozen blocks.
        record: The pass.

    Attributes:
        prefix_values: By layer, what the prefix's tokens have in the values,
            (key-value heads × positions of the prefix × d_head, tokens of the prefix).
    """

    def __init__(self, blocks: Sequence[FrozenBlock], record: Record) -> None:
        self.prefix = record.prefix
        own = record.embeddings.float()
        self.prefix_values = [own.new_zeros(0, 0, device=b.block.device) for b in blocks]
        for level in _carry_up(blocks, own[: self.prefix]):
            if level.at_values is not None:
                values = level.at_values.transpose(2, 3).flatten(0, 2)
                self.prefix_values[level.depth // 2] = values
        # Where MLP and attention read the same place, rows of the first layer begin below both.
        fits = 4 * len(own) * own.numel() <= tuning.RAISED_BYTES
        self._above_attention = fits and not blocks[0].block.parallel
        if self._above_attention:
            x = next(level.x for level in _carry_up(blocks[:1], own) if level.depth == 1)
            self._vectors = x[self.prefix :].transpose(1, 2).to(own.device)
        else:
            self._vectors = own[self.prefix :, :, None]

    def met_above_attention(self, layer: int) -> bool:
        """Whether rows meet the tokens above a block's attention, and go no further down."""
        return layer == 0 and self._above_attention

    def meet(self, gradients: Sequence[Tensor], at_tokens: Sequence[Tensor]) -> None:
        """Add, in place, the products of rows with the tokens.

        Args:
            gradients: Of each group of rows, (positions from the prefix on, rows, d_model).
            at_tokens: Of each group, edges to the tokens up to its last position, (rows, tokens).
        """
        for gradient, found in zip(gradients, at_tokens, strict=True):
            # (positions, d_model, tokens): all of them, or of each position its own.
            vectors = self._vectors[: len(gradient), :, : found.shape[1]]
            products = torch.bmm(gradient, vectors)
            if self._above_attention:
                found += products.sum(0)
            else:
                found[:, self.prefix :] += products[:, :, 0].T


def _carry_up(blocks: Sequence[FrozenBlock], own: Tensor) -> Iterator[Level]:
    """The first tokens' embeddings, (tokens, d_model), carried up among their positions."""
    here, n = torch.arange(len(own)), len(own)
    return ascend(blocks, Placed(here, torch.zeros_like(here), here, own), n, 0, n - 1)
