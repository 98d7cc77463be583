"""What the tokens of a prompt have in the frozen model, and where rows meet them.

A prompt has few tokens and many rows, so that tokens are carried up where that is cheaper than
carrying rows down: on a prompt that is not long through the first block's attention, below which
nothing but tokens writes; and at the positions before `Record.prefix`, where there is nothing else
in any layer, all the way, to be met where attention reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from circuit_nb.frozen import tuning
from circuit_nb.frozen.block import FrozenBlock
from circuit_nb.frozen.buffer import Buffer
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
        pattern = Buffer()
        self.prefix = record.prefix
        own = record.embeddings.float()
        self.prefix_values = _carry_up(blocks, own[: self.prefix], pattern)
        # Where MLP and attention read the same place, rows of the first layer begin below both.
        fits = 4 * len(own) * own.numel() <= tuning.RAISED_BYTES
        self._above_attention = fits and not blocks[0].block.parallel
        if self._above_attention:
            x = _apart(own.to(blocks[0].block.device))
            x = x + _attend(blocks[0], x, pattern)[1]
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


def _carry_up(blocks: Sequence[FrozenBlock], own: Tensor, pattern: Buffer) -> list[Tensor]:
    """`Tokens.prefix_values`, from the prefix's embeddings."""
    k = len(own)
    where = torch.arange(k).repeat_interleave(k)
    x = _apart(own)
    found: list[Tensor] = []
    for frozen in blocks:
        x = x.to(frozen.block.device)
        values, attended = _attend(frozen, x, pattern)
        found.append(values.transpose(2, 3).flatten(0, 2))
        read = x if frozen.block.parallel else x + attended
        x = x + attended + frozen.skip(read.flatten(0, 1), where).view_as(x)
    return found


def _apart(own: Tensor) -> Tensor:
    """The share each token has in the embeddings, (positions, tokens, d_model)."""
    here = torch.arange(len(own))
    x = own.new_zeros(len(own), *own.shape)
    x[here, here] = own
    return x


def _attend(frozen: FrozenBlock, x: Tensor, pattern: Buffer) -> tuple[Tensor, Tensor]:
    """Through a block's attention among the first positions.

    Args:
        frozen: The block.
        x: Shares of tokens in the residual stream, (positions, tokens, d_model).
        pattern: Memory for the block's pattern.

    Returns:
        Their shares in the values, (key-value heads, positions, tokens, d_head), and in what
        attention adds, (positions, tokens, d_model).
    """
    n, tokens, _ = x.shape
    attention = frozen.attention(n, pattern)
    kv_heads, d_head, _ = attention.out_of_values.shape
    values = torch.matmul(x.flatten(0, 1), attention.out_of_values.transpose(1, 2))
    by_query = torch.bmm(attention.pattern, values.view(kv_heads, n, tokens * d_head))
    by_head = by_query.view(kv_heads, n, attention.group, tokens, d_head)
    by_head = by_head.permute(1, 3, 0, 2, 4).flatten(2)
    return values.view(kv_heads, n, tokens, d_head), by_head @ attention.into_heads.T
