"""Rows of the attribution graph: computing them, keeping them, choosing which come next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_nb.attribution.descent import FrozenModel, Starts
from circuit_nb.attribution.written import Sources
from circuit_nb.model.memory import available_memory, free_memory, is_out_of_memory
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel

BATCH_BYTES = 2**26
"""Working memory of one batch on a CPU: more would not stay near it."""
LARGE_BATCH_BYTES = 2**28
"""The same on an accelerator, or where what sources wrote is laid out anew for every batch."""

GROUP_COST = {"cpu": 2}
OTHER_GROUP_COST = 64
"""What a group of rows costs by itself at each position, in rows: an accelerator waits longer for
what it is told than for the arithmetic."""

SHARE_OF_MEMORY = 0.5
"""How much of the free memory the matrix of edges may take, and how much of a device's a batch."""


@dataclass(frozen=True)
class _Block:
    """The rows of one group."""

    numbers: slice
    """Their numbers: rows are counted as they were computed, targets first."""
    layers: Tensor
    """(rows,): the layer each begins at, descending."""
    edges: Tensor
    """(rows, columns kept up to the last position of the group)."""


class Rows:
    """The rows computed so far, and the choice of the next.

    All columns are kept if they fit into memory; if not, those of the features that are most
    influential once the first quarter of the rows is known, which are then the only ones that can
    still be chosen.

    Args:
        model: The model.
        record: Its recorded pass.
        directions: The targets' directions, (targets, d_model).
        probabilities: The targets' weights, (targets,).
        n_rows: How many feature rows to compute.
        batch_size: The most rows computed at once; as many as memory allows if `None`. Halved when
            memory runs out.

    Raises:
        ValueError: If so many rows do not fit into memory.
    """

    def __init__(
        self,
        model: ReplacementModel,
        record: Record,
        directions: Tensor,
        probabilities: Tensor,
        *,
        n_rows: int,
        batch_size: int | None,
    ) -> None:
        self.model = model
        self.record = record
        self.directions = directions
        self.probabilities = probabilities
        self.n_rows = n_rows
        self.n_targets = len(directions)
        self.n_done = 0
        """Feature rows computed."""
        self.sources = Sources(model, record)
        self.columns = self.sources.columns
        self.frozen = FrozenModel(model, record)
        self.device = self.sources.device
        self.batch_size = batch_size or n_rows + self.n_targets
        small = self.device.type == "cpu" and self.sources.keeps
        most = BATCH_BYTES if small else LARGE_BATCH_BYTES
        self.batch_bytes = min(most, int(SHARE_OF_MEMORY * free_memory(self.device)))
        self.order = torch.zeros(n_rows, dtype=torch.int64)
        """Feature of each row after the targets', in the order they were computed."""
        self.layers = record.features[:, 0].cpu()
        self.positions = record.features[:, 1].cpu()
        self.waiting = torch.ones(len(record.features), dtype=torch.bool)
        self.kept = torch.arange(self.columns.n)
        """The columns kept, ascending."""
        self.n_kept = self._columns_that_fit()
        self.blocks: list[_Block] = []
        self.sums = torch.zeros(self.n_targets + n_rows)
        """Sum of |edges| of each row, over all columns."""

    def _columns_that_fit(self) -> int:
        budget = int(SHARE_OF_MEMORY * available_memory())
        every, n_rows = self.columns.n, self.n_targets + self.n_rows
        fixed = every - len(self.waiting)
        fit = budget // (4 * max(n_rows, 1))
        if fit < fixed + self.n_rows:
            # The largest r with 4 (targets + r) (fixed + r) <= budget.
            b, c = fixed + self.n_targets, fixed * self.n_targets - budget / 4
            most = max(0, int(((max(b * b - 4 * c, 0.0)) ** 0.5 - b) / 2))
            raise ValueError(
                f"{self.n_rows:,} rows of this prompt need "
                f"{4 * n_rows * (fixed + self.n_rows) / 2**30:.1f} GiB for their edges, and "
                f"{budget / 2**30:.1f} GiB can be used; max_features={most:,} would fit."
            )
        return min(every, fit)

    def _chunk(self) -> int:
        """How many rows are computed before influence is estimated anew.

        A quarter, then each time as many as are known.
        """
        return max(self.n_done, self.n_rows // 4, 16)

    def add_targets(self) -> None:
        """Compute the targets' rows."""
        n_layers, last = len(self.model.blocks), self.record.positions - 1
        rows = torch.arange(self.n_targets)
        layers, positions = torch.full_like(rows, n_layers), torch.full_like(rows, last)
        for _ in self._compute(Starts(layers, positions, self.directions, (self.n_targets,))):
            pass

    def add_features(self) -> Iterator[int]:
        """Compute the rows of the next most influential features.

        Yields:
            How many were computed, batch by batch.
        """
        groups = self._groups(self._next())
        features = torch.cat(groups)
        starts = Starts(
            self.layers[features],
            self.positions[features],
            self.sources.encoders(features),
            tuple(map(len, groups)),
        )
        for n in self._compute(starts):
            done, features = features.tensor_split([n])
            self.order[self.n_done : self.n_done + n] = done
            self.waiting[done] = False
            self.n_done += n
            yield n

    def _groups(self, chosen: Tensor) -> list[Tensor]:
        """Cut features into groups of like positions, in each the highest layer first.

        A group is computed up to its last position for all its rows. So it ends where going on to
        the next position would cost its rows more than a group costs by itself.
        """
        cost = GROUP_COST.get(self.device.type, OTHER_GROUP_COST)
        by_position = chosen[torch.argsort(self.positions[chosen], stable=True)]
        positions, counts = self.positions[by_position].unique_consecutive(return_counts=True)
        sizes, before = [0], 0
        for position, count in zip(positions.tolist(), counts.tolist(), strict=True):
            if sizes[-1] * (position - before) > cost * (position + 1):
                sizes.append(0)
            sizes[-1] += count
            before = position
        return [
            group[torch.argsort(-self.layers[group], stable=True)]
            for group in by_position.split(sizes)
        ]

    def _compute(self, starts: Starts) -> Iterator[int]:
        """Compute rows, as many at once as should fit, and fewer if memory runs out all the same.

        Yields:
            How many were computed.
        """
        done = 0
        while done < len(starts):
            part = starts.part(done, done + self._fit(starts, done))
            try:
                self._compute_at_once(part)
            except RuntimeError as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                self.batch_size = len(part) // 2
                self.frozen.scratch.clear()
            else:
                done += len(part)
                yield len(part)

    def _fit(self, starts: Starts, begin: int) -> int:
        """How many rows, from one on, can be computed at once."""
        sizes = torch.tensor([self._row_bytes(last) for last in starts.lasts])
        rows = sizes.repeat_interleave(torch.tensor(starts.sizes))[begin:]
        fit = int((rows.cumsum(0) <= self.batch_bytes).sum())
        return max(1, min(fit, self.batch_size))

    def _row_bytes(self, position: int) -> int:
        """Working memory of a row that begins at a position: gradients, by residual stream and by
        head, each with a copy, and on an accelerator its edges."""
        heads, d_head, d_model = self.model.blocks[0].W_O.shape
        gradients = (position + 1) * (2 * d_model + 3 * heads * d_head)
        edges = 0 if self.device.type == "cpu" else 2 * self.columns.up_to(position)
        return 4 * (gradients + edges)

    def _compute_at_once(self, starts: Starts) -> None:
        edges = [
            torch.zeros(rows, self.columns.up_to(last), device=self.device)
            for rows, last in zip(starts.sizes, starts.lasts, strict=True)
        ]
        at_tokens = [
            torch.zeros(rows, last + 1, device=self.record.embeddings.device)
            for rows, last in zip(starts.sizes, starts.lasts, strict=True)
        ]
        for arrival in self.frozen.descend(starts, at_tokens):
            self.sources.contract(arrival, edges)
        for into, found in zip(edges, at_tokens, strict=True):
            columns = self.columns.tokens[: found.shape[1]].to(into.device)
            into[:, columns] = found.to(into.device)
        for layers, found in zip(starts.layers.split(starts.sizes), edges, strict=True):
            first = self.blocks[-1].numbers.stop if self.blocks else 0
            numbers = slice(first, first + len(layers))
            self.sums[numbers] = torch.linalg.vector_norm(found, ord=1, dim=1).cpu()
            if len(self.kept) < self.columns.n:
                found = found[:, self._kept_below(found.shape[1]).to(found.device)]
            self.blocks.append(_Block(numbers, layers, found.cpu()))

    def _kept_below(self, column: int) -> Tensor:
        return self.kept[: int(torch.searchsorted(self.kept, column))]

    def _next(self) -> Tensor:
        """The features to compute next, by influence through the rows known so far."""
        if self.n_rows == len(self.waiting):
            return self.waiting.nonzero()[:, 0]
        influence = self._influence()
        if self.n_done and self.n_kept < len(self.kept):
            self._narrow(influence)
        influence[~self.waiting] = -1
        return influence.topk(min(self.n_rows - self.n_done, self._chunk())).indices

    def _narrow(self, influence: Tensor) -> None:
        """Keep only the columns that fit: errors, tokens, and the most influential features."""
        fixed = torch.ones(self.columns.n, dtype=torch.bool)
        fixed[self.columns.features] = False
        ranked = torch.where(self.waiting, influence, float("inf"))
        best = ranked.topk(self.n_kept - int(fixed.sum())).indices
        fixed[self.columns.features[best]] = True
        self.kept = fixed.nonzero()[:, 0]
        self.blocks = [
            _Block(b.numbers, b.layers, b.edges[:, self._kept_below(b.edges.shape[1])])
            for b in self.blocks
        ]

    def _influence(self) -> Tensor:
        """Influence of every active feature on the targets through the rows computed so far.

        Layer by layer from the top: when a layer's turn comes, all that its rows pass on has
        arrived. Features whose columns are not kept have -1.
        """
        places = torch.full((self.columns.n,), -1)
        places[self.kept] = torch.arange(len(self.kept))
        places = places[self.columns.features]
        influence = torch.zeros(len(self.kept))
        arrived = torch.cat([torch.arange(self.n_targets) - self.n_targets, places[self.order]])
        for layer in range(len(self.model.blocks), -1, -1):
            for block in self.blocks:
                here = (block.layers == layer).nonzero()[:, 0]
                if not len(here):
                    continue
                # A group's rows are sorted by layer: they adjoin.
                begin, end = int(here[0]), int(here[-1]) + 1
                numbers = slice(block.numbers.start + begin, block.numbers.start + end)
                above = layer == len(self.model.blocks)
                passed = self.probabilities[numbers] if above else influence[arrived[numbers]]
                passed = passed / self.sums[numbers].clamp(min=1e-10)
                influence[: block.edges.shape[1]] += passed @ block.edges[begin:end].abs()
        return torch.where(places < 0, -1.0, influence[places])

    def matrix(self) -> tuple[Tensor, Tensor]:
        """Features kept, ascending, and the edges in an attribution graph's order.

        To be called once, at the end: memory of descents, and what has been copied, is let go.
        """
        self.frozen.scratch.clear()
        kept = self.order.sort().values
        columns = torch.cat(
            [self.columns.features[kept], self.columns.errors.flatten(), self.columns.tokens]
        )
        places = torch.searchsorted(self.kept, columns)
        places[columns < 0] = -1
        after = torch.arange(self.n_targets) + self.n_rows
        rows = torch.cat([after, torch.searchsorted(kept, self.order)])
        edges = torch.zeros(len(rows), len(columns))
        while self.blocks:
            block = self.blocks.pop()
            inside = ((places >= 0) & (places < block.edges.shape[1])).nonzero()[:, 0]
            edges[rows[block.numbers, None], inside] = block.edges[:, places[inside]]
        return kept, edges
