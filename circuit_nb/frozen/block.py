"""One block of the frozen model: its linear maps, and their transposes.

Denominators and patterns are those of a recorded pass, so the maps differ from position to
position: wherever vectors (…, d_model) are given, `where` says at which position each is. A block
can be that of several passes: their positions are then counted through, one pass after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_nb.frozen.buffer import Buffer
from circuit_nb.model.architecture import Block, Norm
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel


@dataclass(frozen=True)
class Attention:
    """A block's attention as two matrices and a pattern, the norms around it folded in.

    Their weights are in the matrices, their denominators in the pattern.
    """

    into_heads: Tensor
    """(d_model, heads × d_head): the transposed output matrix."""
    out_of_values: Tensor
    """(key-value heads, d_head, d_model): the transposed value matrices."""
    pattern: Tensor
    """(key-value heads, queries × group, keys). The query heads that share a key-value head are a
    group: one product sums what comes back through them."""

    @property
    def group(self) -> int:
        """Query heads to a key-value head."""
        kv_heads, d_head, _ = self.out_of_values.shape
        return self.into_heads.shape[1] // (kv_heads * d_head)

    def values(self, x: Tensor, on: Tensor) -> Tensor:
        """The shares that vectors have in the values, (key-value heads, positions, n, d_head).

        Args:
            x: (positions, n, d_model).
            on: Numbers of the pairs of position and vector that are more than 0.
        """
        found = x.flatten(0, 1).index_select(0, on) @ self.out_of_values.flatten(0, 1).T
        return _spread(found, on, x.shape, len(self.out_of_values))

    def add(self, values: Tensor, first: int, into: Tensor, on: Tensor) -> None:
        """Add what attention makes of values to the residual stream, (positions, n, d_model).

        Args:
            values: As `values` gives them.
            first: The position that they begin with.
            into: Changed in place.
            on: The pairs that anything can come to.
        """
        kv_heads, positions, n, d_head = values.shape
        pattern = self.pattern[:, first * self.group :, first:]
        read = torch.bmm(pattern, values.view(kv_heads, positions, n * d_head))
        read = read.view(kv_heads, positions, self.group, n, d_head).permute(1, 3, 0, 2, 4)
        read = read.reshape(positions * n, -1).index_select(0, on)
        into.flatten(0, 1).index_add_(0, on, read @ self.into_heads.T)

    def heads(self, gradient: Tensor, on: Tensor) -> Tensor:
        """Gradients where attention writes, carried to its heads, (heads, positions, n, d_head).

        Args:
            gradient: (positions, n, d_model).
            on: Numbers of the pairs of position and gradient that are more than 0.
        """
        found = gradient.flatten(0, 1).index_select(0, on) @ self.into_heads
        return _spread(found, on, gradient.shape, len(self.out_of_values) * self.group)

    def to_values(self, by_head: Tensor, first: int) -> Tensor:
        """From the heads to the values that they attend to, each head by itself; shapes as `heads`
        gives them."""
        n_heads, positions, n, d_head = by_head.shape
        pattern = self.pattern.view(len(self.pattern), -1, self.group, self.pattern.shape[2])
        pattern = pattern.transpose(1, 2).flatten(0, 1)[:, first:, first:].transpose(1, 2)
        flat = by_head.view(n_heads, positions, n * d_head)
        return torch.bmm(pattern, flat).view(by_head.shape)

    def add_back(self, at_values: Tensor, into: Tensor, on: Tensor) -> None:
        """Add gradients at the values, as `to_values` gives them, to those of the residual stream,
        (positions, n, d_model), in place, at the pairs that any come to."""
        kv_heads, d_head, _ = self.out_of_values.shape
        summed = at_values.view(kv_heads, self.group, -1, d_head).sum(1).index_select(1, on)
        back = summed.transpose(0, 1).flatten(1) @ self.out_of_values.flatten(0, 1)
        into.flatten(0, 1).index_add_(0, on, back)


def _spread(found: Tensor, on: Tensor, shape: tuple[int, ...], n_heads: int) -> Tensor:
    """By head, at all positions, (heads, positions, n, d_head), what is at some pairs of position
    and vector, (pairs, heads × d_head); 0 at the others."""
    positions, n, _ = shape
    spread = found.new_zeros(n_heads, positions * n, found.shape[1] // n_heads)
    spread.index_copy_(1, on, found.view(len(on), n_heads, -1).transpose(0, 1))
    return spread.view(n_heads, positions, n, -1)


class FrozenBlock:
    """One block.

    Args:
        model: The model.
        record: Its recorded pass.
        layer: Which block.
        others: More passes.
    """

    def __init__(
        self, model: ReplacementModel, record: Record, layer: int, others: Sequence[Record] = ()
    ) -> None:
        self.block: Block = model.blocks[layer]
        self._records = (record, *others)
        self._scales = {
            norm.hook: torch.cat([each.scales[norm.hook] for each in self._records])
            for norm in self.block.norms
        }
        self.transcoder = model.transcoders.layers[layer]
        self.input_hook = model.transcoders.input_hook
        hook = model.transcoders.output_hook
        self._post: Norm | None = self.block.mlp_post_norm if hook == "mlp.hook_out" else None

    @property
    def varies(self) -> bool:
        """Whether `write_back` or `skip_back` is another map at every position."""
        return self._post is not None or self.transcoder.W_skip is not None

    def _scale(self, norm: Norm, where: Tensor) -> Tensor:
        return self._scales[norm.hook][where.to(self.block.device)]

    def read_back(self, gradient: Tensor, where: Tensor) -> Tensor:
        """From where features read to the residual stream."""
        if self.input_hook == "hook_resid_mid":
            return gradient
        norm = self.block.mlp_norm
        scale = self._scale(norm, where)
        if self.input_hook == "ln2.hook_normalized":
            return norm.center(gradient / scale)
        return norm.transpose(gradient, scale)

    def write_back(self, gradient: Tensor, where: Tensor) -> Tensor:
        """From the residual stream above the block to where its transcoder writes."""
        if self._post is None:
            return gradient
        return self._post.transpose(gradient, self._scale(self._post, where))

    def skip_back(self, written: Tensor, where: Tensor) -> Tensor | None:
        """Through the transcoder's linear skip path, to the residual stream it reads.

        Args:
            written: Gradient where the transcoder writes.
            where: Positions.

        Returns:
            `None` if there is no such path.
        """
        W_skip = self.transcoder.W_skip
        return None if W_skip is None else self.read_back(written @ W_skip.float(), where)

    def skip(self, x: Tensor, where: Tensor) -> Tensor | None:
        """The skip path itself, from residual stream to residual stream; `None` without one."""
        if self.transcoder.W_skip is None:
            return None
        if self.input_hook != "hook_resid_mid":
            norm, scale = self.block.mlp_norm, self._scale(self.block.mlp_norm, where)
            plain = self.input_hook == "ln2.hook_normalized"
            x = norm.center(x) / scale if plain else norm(x, scale)
        return self.write(x @ self.transcoder.W_skip.float().T, where)

    def write(self, written: Tensor, where: Tensor) -> Tensor:
        """From where its transcoder writes to the residual stream above the block."""
        if self._post is None:
            return written
        return self._post(written, self._scale(self._post, where))

    def attention(self, positions: int, pattern_buffer: Buffer) -> Attention:
        """Attention among so many first positions of the first pass.

        Args:
            positions: How many.
            pattern_buffer: Where the pattern is put: the result is good until it is taken again.
        """
        return self.attentions([positions], pattern_buffer)[0]

    def attentions(self, positions: Sequence[int], pattern_buffer: Buffer) -> list[Attention]:
        """As `attention`, of each pass among so many of its own first positions."""
        block = self.block
        norm, post = block.attention_norm, block.attention_post_norm
        output, value = block.W_O.float(), block.W_V.float()
        value = norm.center((value * norm.weight.float()[:, None]).transpose(1, 2))
        if post is not None:
            output = post.center(output) * post.weight.float()
        into_heads, out_of_values = output.flatten(0, 1).T, value.contiguous()
        kv_heads, group = len(value), len(output) // len(value)
        sizes = [n * n * len(output) for n in positions]
        patterns = pattern_buffer.take((sum(sizes),), block.device).split(sizes)
        found: list[Attention] = []
        for record, n, pattern in zip(self._records, positions, patterns, strict=False):
            recorded = record.patterns[block.layer][:, :n, :n].unflatten(0, (kv_heads, group))
            by_key = record.scales[norm.hook][:n, 0]
            pattern = pattern.view(kv_heads, n, group, n)
            torch.div(recorded.transpose(1, 2), by_key, out=pattern)
            if post is not None:
                pattern /= record.scales[post.hook][:n, None]
            pattern = pattern.view(kv_heads, n * group, n)
            found.append(Attention(into_heads, out_of_values, pattern))
        return found
