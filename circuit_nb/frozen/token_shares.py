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
        first: The first frozen block.
        record: The pass.
        prefix_values: See there.
        above_attention: Whether they are carried up through the first block's attention.

    Attributes:
        prefix_values: By layer, what the prefix's tokens have in the values,
            (key-value heads × positions of the prefix × d_head, tokens of the prefix).
    """

    def __init__(
        self,
        first: FrozenBlock,
        record: Record,
        prefix_values: list[Tensor],
        *,
        above_attention: bool,
    ) -> None:
        self.prefix, self.prefix_values = record.prefix, prefix_values
        own = record.embeddings.float()
        self._above_attention = above_attention
        if self._above_attention:
            x = next(level.x for level in _carry_up([first], own) if level.depth == 1)
            self._vectors = x[self.prefix :].transpose(1, 2).to(own.device)
        else:
            self._vectors = own[self.prefix :, :, None]

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


def prefix_values(blocks: Sequence[FrozenBlock], record: Record) -> list[Tensor]:
    """See `Tokens`: what is the same for all prompts with this prefix, which sees only itself."""
    own = record.embeddings[: record.prefix].float()
    found = [own.new_zeros(0, 0, device=block.block.device) for block in blocks]
    for level in _carry_up(blocks, own):
        if level.at_values is not None:
            found[level.depth // 2] = level.at_values.transpose(2, 3).flatten(0, 2)
    return found


def raised(blocks: Sequence[FrozenBlock], records: Sequence[Record]) -> bool:
    """Whether tokens are to be carried up through the first block's attention: where MLP and
    attention read the same place, rows of the first layer begin below both."""
    most = max(4 * r.positions * r.embeddings.numel() for r in records)
    return most <= tuning.RAISED_BYTES and not blocks[0].block.parallel


def _carry_up(blocks: Sequence[FrozenBlock], own: Tensor) -> Iterator[Level]:
    """The first tokens' embeddings, (tokens, d_model), carried up among their positions."""
    here, n = torch.arange(len(own)), len(own)
    return ascend(blocks, Placed(here, torch.zeros_like(here), here, own), n, 0, n - 1)
