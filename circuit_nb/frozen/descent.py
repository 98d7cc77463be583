"""The frozen linear model of one recorded pass, applied backwards.

With attention patterns, norm denominators and the features' on/off choices fixed at what they
were, and MLPs replaced by features and constants, the residual stream at any place is a linear
function of what was written below it. This module carries gradients down through that function:
no autograd, only matrix products with the recorded patterns and the model's own weights.

A row is a gradient whose causes are asked for. It joins at its own layer, so nothing is computed
above it, and it is carried at positions up to its own only. Rows of like positions form a group;
the gradients of all groups lie in one tensor, so that one product with a weight serves them all.

Prompts are carried together: a group is of one of them, and only patterns and denominators tell
them apart.

At the positions before `Record.prefix` only tokens write. No row is carried there: it meets those
tokens where attention reads them, and on most prompts all tokens above the first attention
(`circuit_nb.frozen.token_shares`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from circuit_nb.frozen import tuning
from circuit_nb.frozen.block import Attention, FrozenBlock
from circuit_nb.frozen.buffer import Buffer
from circuit_nb.frozen.starts import Arrival, Starts
from circuit_nb.frozen.token_shares import Tokens, prefix_values, raised
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel


class FrozenModel:
    """The linear map of recorded passes. It holds nothing of any descent: many can run at once.

    Args:
        model: The model.
        records: Recorded passes of it.
    """

    def __init__(self, model: ReplacementModel, records: Sequence[Record]) -> None:
        self.model, self.records = model, records
        layers = range(len(model.blocks))
        self.blocks = [FrozenBlock(model, records[0], i, records[1:]) for i in layers]
        self.tokens_above_attention = raised(self.blocks, records)
        self.tokens: list[Tokens] = []
        alike: dict[tuple[int, ...], list[Tensor]] = {}
        for record in records:
            prefix = tuple(record.token_ids[: record.prefix].tolist())
            if prefix not in alike:
                alike[prefix] = prefix_values(
                    [FrozenBlock(model, record, i) for i in layers], record
                )
            first, above = FrozenBlock(model, record, 0), self.tokens_above_attention
            self.tokens.append(Tokens(first, record, alike[prefix], above_attention=above))
        self.firsts = [0, *accumulate(record.positions for record in records)]
        """Where the positions of each pass begin, counted through all of them."""
        norm = model.final_norm
        self.final_scales = torch.cat([record.scales[norm.hook] for record in records])


class _Plan:
    """All pairs of position and row that will be carried, in the order in which they lie: by group,
    position and row. Those carried at a layer are some of them, in that order.

    Args:
        frozen: The frozen model.
        starts: The rows.
    """

    def __init__(self, frozen: FrozenModel, starts: Starts) -> None:
        self.owners, n_layers = starts.owners, len(frozen.blocks)
        self.prefixes = [frozen.records[owner].prefix for owner in self.owners]
        ends = zip(starts.lasts, self.prefixes, strict=True)
        self.lengths = [last + 1 - prefix for last, prefix in ends]
        rows, where = list[Tensor](), list[Tensor]()
        numbers = torch.arange(len(starts)).split(starts.sizes)
        for i, (own, n) in enumerate(zip(numbers, self.lengths, strict=True)):
            first = frozen.firsts[self.owners[i]] + self.prefixes[i]
            rows.append(own.repeat(n))
            where.append(torch.arange(first, first + n).repeat_interleave(len(own)))
        self.rows, self.where = torch.cat(rows), torch.cat(where)
        begins = torch.tensor([frozen.firsts[owner] for owner in self.owners])
        group = torch.arange(len(self.owners)).repeat_interleave(torch.tensor(starts.sizes))
        self.own_place = begins[group] + starts.positions
        """Of each row, where it begins."""
        self.layers = starts.layers[self.rows]
        self.own = self.where == self.own_place[self.rows]
        counts = torch.bincount(
            group * (n_layers + 1) + starts.layers, minlength=len(self.owners) * (n_layers + 1)
        ).view(-1, n_layers + 1)
        self.counts = counts.flip(1).cumsum(1).flip(1).T.tolist()
        """Of each layer, how many rows of each group begin there or above."""

    def shapes(self, layer: int) -> list[tuple[int, int]]:
        """Positions and rows of each group, of those rows that begin at a layer or above."""
        return list(zip(self.lengths, self.counts[layer], strict=True))


@dataclass(frozen=True)
class _Carried:
    """The gradients of all groups."""

    held: Tensor
    """(pairs of position and row + 1, d_model); the last is zero."""
    shapes: list[tuple[int, int]]
    """Positions and rows of each group."""

    @property
    def flat(self) -> Tensor:
        """The gradients; within a group all rows of a position adjoin."""
        return self.held[:-1]

    def parts(self, flat: Tensor) -> list[Tensor]:
        """Something that lies as the gradients do, by group: (positions, rows, …)."""
        pieces = flat.split([n * rows for n, rows in self.shapes])
        return [
            piece.view(n, rows, piece.shape[1])
            for piece, (n, rows) in zip(pieces, self.shapes, strict=True)
        ]


class Descent:
    """Carries gradients down a frozen model, and keeps its memory from one run to the next.

    Args:
        frozen: The frozen model; other descents of it do not disturb this one.
    """

    def __init__(self, frozen: FrozenModel) -> None:
        self.frozen = frozen
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
        plan, blocks = _Plan(self.frozen, starts), self.frozen.blocks
        empty = starts.vectors.new_zeros(1, starts.vectors.shape[1], dtype=torch.float32)
        carried = _Carried(empty, [(n, 0) for n in plan.lengths])
        carried = self._join(carried, plan, starts, len(blocks))
        for frozen in reversed(blocks):
            block = frozen.block
            carried = replace(carried, held=carried.held.to(block.device))
            skipped = None
            if len(carried.flat):
                where = plan.where[plan.layers > block.layer] if frozen.varies else torch.empty(0)
                written = frozen.write_back(carried.flat, where)
                yield Arrival(block.layer, carried.parts(written))
                skipped = frozen.skip_back(written, where)
            if block.parallel:
                # The MLP and attention read the same place, so neither lies on the other's path.
                self._attention(frozen, carried, plan, at_tokens)
            if skipped is not None:
                carried.flat.add_(skipped)
            carried = self._join(carried, plan, starts, block.layer)
            met = block.layer == 0 and self.frozen.tokens_above_attention
            if not (block.parallel or met):
                self._attention(frozen, carried, plan, at_tokens)
        parts = carried.parts(carried.flat.to(self.frozen.records[0].embeddings.device))
        for owner, groups, _ in starts.by_owner():
            self.frozen.tokens[owner].meet(parts[groups], at_tokens[groups])

    def _join(self, carried: _Carried, plan: _Plan, starts: Starts, layer: int) -> _Carried:
        """Add the rows that begin at a layer, in the residual stream, before it is read."""
        there = plan.layers >= layer
        layers = plan.layers[there]
        before = (layers > layer).nonzero()[:, 0]
        if len(before) == len(layers):
            return carried
        # Where each pair is taken from; one that joins is zero, but for the row's own position.
        source = torch.full_like(layers, len(before))
        source[before] = torch.arange(len(before))
        own = (plan.own[there] & (layers == layer)).nonzero()[:, 0]
        vectors = self._start(starts, plan, layer, plan.rows[there][own])
        width, most = vectors.shape[1], (len(plan.rows) + 1) * vectors.shape[1]
        held = self._joined.take((len(layers) + 1, width), vectors.device, most)
        self._carried, self._joined = self._joined, self._carried
        old = carried.held.to(held.device)
        torch.index_select(old, 0, source.to(held.device), out=held[:-1])
        held[-1] = 0
        held[own.to(held.device)] = vectors
        return _Carried(held, plan.shapes(layer))

    def _start(self, starts: Starts, plan: _Plan, layer: int, rows: Tensor) -> Tensor:
        """Gradients of rows in the residual stream at their own positions."""
        blocks, norm = self.frozen.blocks, self.frozen.model.final_norm
        above = layer == len(blocks)
        device = norm.weight.device if above else blocks[layer].block.device
        vectors = starts.vectors[rows.to(starts.vectors.device)].to(device).float()
        where = plan.own_place[rows].to(device)
        if not above:
            return blocks[layer].read_back(vectors, where)
        return norm.transpose(vectors, self.frozen.final_scales[where])

    def _attention(
        self, frozen: FrozenBlock, carried: _Carried, plan: _Plan, at_tokens: Sequence[Tensor]
    ) -> None:
        """Add, in place, what comes back through a block's attention.

        Transposes of output matrix, pattern and value matrix, one matrix product each. What comes
        to the values of the prefix is contracted with what its tokens have there and added to
        `at_tokens`, as for `run`.
        """
        if not len(carried.flat):
            return
        pairs, device, in_all = len(carried.flat), carried.flat.device, len(plan.rows)
        most = [0] * len(self.frozen.records)
        groups = zip(plan.owners, plan.prefixes, carried.shapes, strict=True)
        for owner, prefix, (n, rows) in groups:
            most[owner] = max(most[owner], prefix + n if rows else 0)
        attentions = frozen.attentions(most, self._pattern)
        kv_heads, d_head, _ = attentions[0].out_of_values.shape
        width = attentions[0].into_heads.shape[1]
        heads = self._heads.take((pairs, width), device, in_all * width)
        torch.mm(carried.flat, attentions[0].into_heads, out=heads)
        size = kv_heads * d_head
        values = self._values.take((kv_heads, pairs, d_head), device, in_all * size)
        steps = zip(
            plan.owners,
            plan.prefixes,
            carried.parts(heads),
            values.split([n * rows for n, rows in carried.shapes], 1),
            at_tokens,
            strict=True,
        )
        for owner, prefix, by_head, own, found in steps:
            if by_head.shape[1]:
                prefix_values = self.frozen.tokens[owner].prefix_values[frozen.block.layer]
                at_prefix = self._to_values(attentions[owner], prefix, by_head, own, in_all)
                products = (at_prefix @ prefix_values).to(found.device)
                found[: len(products), :prefix] += products
        for own, weight in zip(values, attentions[0].out_of_values, strict=True):
            carried.flat.addmm_(own, weight)

    def _to_values(
        self, attention: Attention, k: int, by_head: Tensor, own: Tensor, in_all: int
    ) -> Tensor:
        """From one group's heads to the values they attend to.

        Args:
            attention: The block's attention.
            k: Positions of the prefix.
            by_head: (positions, rows, heads × d_head).
            own: At the group's own positions, (key-value heads, positions × rows, d_head);
                overwritten.
            in_all: Pairs there will be once all rows have joined.

        Returns:
            At the prefix, (rows, key-value heads × positions of the prefix × d_head).
        """
        n, rows, width = by_head.shape
        kv_heads, _, d_head = own.shape
        group = attention.group
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
