"""The frozen linear model of one recorded pass, applied backwards.

With attention patterns, norm denominators and the features' on/off choices fixed at what they
were, and MLPs replaced by features and constants, the residual stream at any place is a linear
function of what was written below it. This module carries gradients down through that function:
no autograd, only matrix products with the recorded patterns and the model's own weights.

A row is a gradient whose causes are asked for. It joins at its own layer, so nothing is computed
above it, and it is carried at positions up to its own only. Rows of like positions form a group;
the gradients of all groups lie in one tensor, so that one product with a weight serves them all.

At the positions before `Record.prefix` only tokens write. No row is carried there: it meets those
tokens where attention reads them, and on most prompts all tokens above the first attention
(`circuit_nb.frozen.token_shares`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from circuit_nb.frozen import tuning
from circuit_nb.frozen.block import Attention, FrozenBlock
from circuit_nb.frozen.buffer import Buffer
from circuit_nb.frozen.starts import Arrival, Starts
from circuit_nb.frozen.token_shares import Tokens
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel


@dataclass(frozen=True)
class _Carried:
    """The gradients of all groups."""

    flat: Tensor
    """(pairs of position and row, d_model); within a group all rows of a position adjoin."""
    shapes: list[tuple[int, int]]
    """Positions and rows of each group."""
    in_all: int
    """Pairs there will be once all rows have joined: what memory is taken for."""

    def parts(self, flat: Tensor) -> list[Tensor]:
        """Something that lies as the gradients do, by group: (positions, rows, …)."""
        pieces = flat.split([n * rows for n, rows in self.shapes])
        return [
            piece.view(n, rows, piece.shape[1])
            for piece, (n, rows) in zip(pieces, self.shapes, strict=True)
        ]


class FrozenModel:
    """The linear map of one recorded pass. It holds nothing of any descent: many can run at once.

    Args:
        model: The model.
        record: Its recorded pass.
    """

    def __init__(self, model: ReplacementModel, record: Record) -> None:
        self.model = model
        self.record = record
        self.prefix = record.prefix
        self.blocks = [FrozenBlock(model, record, layer) for layer in range(len(model.blocks))]
        self.tokens = Tokens(self.blocks, record)


class Descent:
    """Carries gradients down a frozen model, and keeps its memory from one run to the next.

    Args:
        frozen: The frozen model; other descents of it do not disturb this one.
    """

    def __init__(self, frozen: FrozenModel) -> None:
        self.frozen = frozen
        self.record = frozen.record
        self.prefix = frozen.prefix
        self._carried, self._joined = Buffer(), Buffer()
        """The gradients of all groups; where they are put when rows join, then the two swap."""
        self._heads, self._values, self._queries = Buffer(), Buffer(), Buffer()
        """What comes back to one block's heads, values and queries."""
        self._pattern = Buffer()

    def clear(self) -> None:
        """Give the memory back."""
        buffers = self._carried, self._joined, self._heads, self._values, self._queries
        for buffer in (*buffers, self._pattern):
            buffer.clear()

    def run(self, starts: Starts, at_tokens: Sequence[Tensor]) -> Iterator[Arrival]:
        """Carry gradients from where they start down to the tokens.

        Args:
            starts: Where they start.
            at_tokens: Of each group, edges to the tokens up to its last position, (rows, tokens),
                where the embeddings are; added to, and complete once all arrivals have been.

        Yields:
            One `Arrival` for each layer below a start, from the top. The consumer must be done
            with it before asking for the next.
        """
        empty = starts.vectors.new_empty(0, starts.vectors.shape[1], dtype=torch.float32)
        lengths = [last + 1 - self.prefix for last in starts.lasts]
        in_all = sum(n * rows for n, rows in zip(lengths, starts.sizes, strict=True))
        blocks = self.frozen.blocks
        carried = _Carried(empty, [(n, 0) for n in lengths], in_all)
        carried = self._join(carried, starts, len(blocks))
        for frozen in reversed(blocks):
            block = frozen.block
            carried = replace(carried, flat=carried.flat.to(block.device))
            skipped = None
            if len(carried.flat):
                where = self._where(carried) if frozen.varies else torch.empty(0)
                written = frozen.write_back(carried.flat, where)
                yield Arrival(block.layer, carried.parts(written))
                skipped = frozen.skip_back(written, where)
            if block.parallel:
                # The MLP and attention read the same place, so neither lies on the other's path.
                self._attention(frozen, carried, at_tokens)
            if skipped is not None:
                carried.flat.add_(skipped)
            carried = self._join(carried, starts, block.layer)
            if not (block.parallel or self.frozen.tokens.met_above_attention(block.layer)):
                self._attention(frozen, carried, at_tokens)
        flat = carried.flat.to(self.record.embeddings.device)
        self.frozen.tokens.meet(carried.parts(flat), at_tokens)

    def _where(self, carried: _Carried) -> Tensor:
        """The position of each pair."""
        by_group = (
            torch.arange(self.prefix, self.prefix + n).repeat_interleave(rows)
            for n, rows in carried.shapes
        )
        return torch.cat(list(by_group))

    def _join(self, carried: _Carried, starts: Starts, layer: int) -> _Carried:
        """Add the rows that begin at a layer, in the residual stream, before it is read."""
        new = starts.layers == layer
        if not new.any():
            return carried
        vectors = self._start(starts, layer, new)
        positions = (starts.positions[new] - self.prefix).tolist()
        more = [int(part.sum()) for part in new.split(starts.sizes)]
        shapes = [(n, rows + k) for (n, rows), k in zip(carried.shapes, more, strict=True)]
        size = sum(n * rows for n, rows in shapes)
        flat = _take(self._joined, size, vectors.shape[1], vectors.device, carried)
        self._carried, self._joined = self._joined, self._carried
        joined = replace(carried, flat=flat, shapes=shapes)
        own: list[int] = []  # the pair of each new row at its own position
        first = 0
        before = carried.flat.to(flat.device)
        pairs = zip(joined.parts(flat), carried.parts(before), strict=True)
        for into, old in pairs:
            n, rows, _ = into.shape
            into[:, : old.shape[1]] = old
            into[:, old.shape[1] :] = 0
            for row in range(old.shape[1], rows):
                own.append(first + positions[len(own)] * rows + row)
            first += n * rows
        flat[torch.tensor(own).to(flat.device)] = vectors
        return joined

    def _start(self, starts: Starts, layer: int, new: Tensor) -> Tensor:
        """Gradients of the new rows in the residual stream at their own positions."""
        blocks, norm = self.frozen.blocks, self.frozen.model.final_norm
        above = layer == len(blocks)
        device = norm.weight.device if above else blocks[layer].block.device
        vectors = starts.vectors[new.to(starts.vectors.device)].to(device).float()
        where = starts.positions[new].to(device)
        if not above:
            return blocks[layer].read_back(vectors, where)
        return norm.transpose(vectors, self.record.scales[norm.hook][where])

    def _attention(
        self, frozen: FrozenBlock, carried: _Carried, at_tokens: Sequence[Tensor]
    ) -> None:
        """Add, in place, what comes back through a block's attention.

        Transposes of output matrix, pattern and value matrix, one matrix product each. What comes
        to the values of the prefix is contracted with what its tokens have there and added to
        `at_tokens`, as for `descend`.
        """
        if not len(carried.flat):
            return
        pairs, device = len(carried.flat), carried.flat.device
        most = self.prefix + max(n for n, rows in carried.shapes if rows)
        attention = frozen.attention(most, self._pattern)
        kv_heads, d_head, _ = attention.out_of_values.shape
        heads = _take(self._heads, pairs, attention.into_heads.shape[1], device, carried)
        torch.mm(carried.flat, attention.into_heads, out=heads)
        values = _take(self._values, pairs, kv_heads * d_head, device, carried)
        values = values.view(kv_heads, pairs, d_head)
        prefix_values = self.frozen.tokens.prefix_values[frozen.block.layer]
        steps = zip(
            carried.parts(heads),
            values.split([n * rows for n, rows in carried.shapes], 1),
            at_tokens,
            strict=True,
        )
        for by_head, own, found in steps:
            if by_head.shape[1]:
                at_prefix = self._to_values(attention, by_head, own, carried.in_all)
                products = (at_prefix @ prefix_values).to(found.device)
                found[: len(products), : self.prefix] += products
        for own, weight in zip(values, attention.out_of_values, strict=True):
            carried.flat.addmm_(own, weight)

    def _to_values(self, attention: Attention, by_head: Tensor, own: Tensor, in_all: int) -> Tensor:
        """From one group's heads to the values they attend to.

        Args:
            attention: The block's attention.
            by_head: (positions, rows, heads × d_head).
            own: At the group's own positions, (key-value heads, positions × rows, d_head);
                overwritten.
            in_all: Pairs there will be once all rows have joined.

        Returns:
            At the prefix, (rows, key-value heads × positions of the prefix × d_head).
        """
        n, rows, width = by_head.shape
        kv_heads, _, d_head = own.shape
        k, group = self.prefix, attention.group
        shape = (kv_heads, n, group, rows, d_head)
        by_query = self._queries.take(shape, by_head.device, in_all * width)
        by_query.copy_(by_head.view(n, rows, kv_heads, group, d_head).permute(2, 0, 3, 1, 4))
        by_query = by_query.view(kv_heads, n * group, rows * d_head)
        back = attention.pattern[:, k * group : (k + n) * group, : k + n].transpose(1, 2)
        for begin in range(0, n, tuning.KEY_BLOCK):
            end, first = min(begin + tuning.KEY_BLOCK, n), begin * group
            found = own[:, begin * rows : end * rows].view(kv_heads, end - begin, rows * d_head)
            torch.bmm(back[:, k + begin : k + end, first:], by_query[:, first:], out=found)
        at_prefix = torch.bmm(back[:, :k], by_query).view(kv_heads, k, rows, d_head)
        return at_prefix.permute(2, 0, 1, 3).reshape(rows, kv_heads * k * d_head)


def _take(buffer: Buffer, n: int, width: int, device: torch.device, carried: _Carried) -> Tensor:
    """Memory for something of each of n pairs, (n, width); there will be `in_all` in the end."""
    return buffer.take((n, width), device, carried.in_all * width)
