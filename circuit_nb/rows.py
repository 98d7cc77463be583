"""Rows of the attribution graph: computing them, keeping them, choosing which come next."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from circuit_nb.linear import FrozenModel, Starts
from circuit_nb.memory import available_memory, free_memory, is_out_of_memory
from circuit_nb.model import Record, ReplacementModel
from circuit_nb.sources import Sources

LARGEST_BATCH = 128
BATCH_BYTES = 2**29
"""Working memory of one batch; long prompts get smaller batches."""

BATCH_COST = 6
"""What a batch costs by itself, in rows."""
LAYING_OUT_COST = 60
"""The same where what sources wrote is laid out anew for every batch."""

SHARE_OF_MEMORY = 0.5
"""How much of the free memory the matrix of edges may take, and how much of a device's a batch."""


class Rows:
    """The rows computed so far, and the choice of the next.

    Rows are kept in the order they were computed, targets first. All columns are kept if they fit
    into memory; if not, those of the features that are most influential once the first quarter of
    the rows is known, which are then the only ones that can still be chosen.

    Args:
        model: The model.
        record: Its recorded pass.
        directions: The targets' directions, (targets, d_model).
        probabilities: The targets' weights, (targets,).
        n_rows: How many feature rows to compute.
        batch_size: Rows computed at once; chosen from the prompt's length and free memory if
            `None`. Halved when memory runs out.

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
        self.frozen = FrozenModel(model, record)
        self.batch_size = batch_size or self._batch_size()
        self.order = torch.zeros(n_rows, dtype=torch.int64)
        """Feature of each row after the targets', in the order they were computed."""
        self.layers = record.features[:, 0].cpu()
        self.positions = record.features[:, 1].cpu()
        self.waiting = torch.ones(len(record.features), dtype=torch.bool)
        self.kept = torch.arange(self.sources.n_columns)
        """The columns kept, ascending."""
        self.n_kept = self._columns_that_fit()
        first = n_rows if self.n_kept == self.sources.n_columns else self._chunk()
        self.edges = torch.zeros(self.n_targets + first, self.sources.n_columns)
        self.sums = torch.zeros(self.n_targets + n_rows)
        """Sum of |edges| of each row, over all columns."""

    def _batch_size(self) -> int:
        """Rows whose gradients, by residual stream and by head, take `BATCH_BYTES`.

        Fewer if they, with their copies and edges, would not fit beside what is there.
        """
        heads, d_head, d_model = self.model.blocks[0].W_O.shape
        gradients = 4 * self.record.positions * (2 * d_model + 3 * heads * d_head)
        room = int(SHARE_OF_MEMORY * free_memory(self.sources.errors.device))
        fit = room // (2 * gradients + 8 * self.sources.n_columns)
        return max(1, min(LARGEST_BATCH, BATCH_BYTES // gradients, fit))

    def _columns_that_fit(self) -> int:
        budget = int(SHARE_OF_MEMORY * available_memory())
        every, n_rows = self.sources.n_columns, self.n_targets + self.n_rows
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
        """How many rows are computed before influence is estimated anew."""
        return max(self.n_rows // 4, 16)

    def add_targets(self) -> None:
        """Compute the targets' rows."""
        n_layers, last = len(self.model.blocks), self.record.positions - 1
        rows = torch.arange(self.n_targets)
        starts = Starts(
            torch.full_like(rows, n_layers), torch.full_like(rows, last), self.directions
        )
        self._compute(starts, 0)

    def add_features(self) -> int:
        """Compute the rows of the next most influential features; returns how many."""
        chosen = self._next()
        for batch in self._batches(chosen):
            features = batch[torch.argsort(-self.layers[batch], stable=True)]
            starts = Starts(
                self.layers[features], self.positions[features], self.sources.encoders(features)
            )
            self._compute(starts, self.n_targets + self.n_done)
            self.order[self.n_done : self.n_done + len(features)] = features
            self.waiting[features] = False
            self.n_done += len(features)
        return len(chosen)

    def _batches(self, chosen: Tensor) -> Iterator[Tensor]:
        """Cut features into batches of like positions.

        A batch is computed up to its last position for all its rows. So it ends, at the latest
        when it is full, where going on to the next position would cost its rows more than a batch
        costs by itself.
        """
        by_position = chosen[torch.argsort(self.positions[chosen], stable=True)]
        positions, counts = self.positions[by_position].unique_consecutive(return_counts=True)
        cost = BATCH_COST if self.sources.keeps else LAYING_OUT_COST
        sizes = [0]
        before = 0
        for position, count in zip(positions.tolist(), counts.tolist(), strict=True):
            if sizes[-1] * (position - before) > cost * (position + 1):
                sizes.append(0)
            sizes[-1] += count
            before = position
        for batch in by_position.split(sizes):
            yield from batch.chunk(math.ceil(len(batch) / self.batch_size))

    def _compute(self, starts: Starts, first: int) -> None:
        """Compute rows and store them from number `first` on, fewer at once if memory runs out."""
        done = 0
        while done < len(starts.layers):
            part = starts.part(done, done + self.batch_size)
            try:
                self._compute_at_once(part, first + done)
            except RuntimeError as error:
                if self.batch_size == 1 or not is_out_of_memory(error):
                    raise
                self.batch_size //= 2
            else:
                done += len(part.layers)

    def _compute_at_once(self, starts: Starts, first: int) -> None:
        rows = slice(first, first + len(starts.layers))
        device = self.sources.errors.device
        whole = len(self.kept) == self.sources.n_columns and device.type == "cpu"
        into = self.edges[rows].zero_()
        if not whole:
            into = torch.zeros(len(starts.layers), self.sources.n_columns, device=device)
        for arrival in self.frozen.descend(starts):
            self.sources.contract(arrival, into)
        self.sums[rows] = torch.cat([part.abs().sum(1) for part in into.split(16)]).cpu()
        if not whole:
            every = len(self.kept) == self.sources.n_columns
            self.edges[rows] = (into if every else into[:, self.kept.to(device)]).cpu()

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
        n_features = len(influence)
        fixed = torch.arange(n_features, self.sources.n_columns)
        ranked = torch.where(self.waiting, influence, float("inf"))
        best = ranked.topk(self.n_kept - len(fixed)).indices
        self.kept = torch.cat([best.sort().values, fixed])
        edges = torch.zeros(self.n_targets + self.n_rows, self.n_kept)
        known = self.n_targets + self.n_done
        edges[:known] = self.edges[:known, self.kept]
        self.edges = edges

    def _influence(self) -> Tensor:
        """Influence of every active feature on the targets through the rows computed so far.

        Only computed rows pass influence on, so it is solved among them and then spread to all
        features by one matrix product. Sorted from the top layer down, no row feeds an earlier
        one: the system is triangular.
        """
        n = self.n_targets + self.n_done
        known = self.order[: self.n_done]
        down = torch.argsort(-self.layers[known], stable=True)
        rows = torch.cat([torch.arange(self.n_targets), self.n_targets + down])
        feeds = torch.zeros(n, n)
        columns = torch.searchsorted(self.kept, known[down])
        feeds[:, self.n_targets :] = self.edges[rows[:, None], columns].abs()
        feeds /= self.sums[rows, None].clamp(min=1e-10)
        reach = torch.zeros(n)
        reach[: self.n_targets] = self.probabilities
        reach = torch.linalg.solve_triangular(
            torch.eye(n) - feeds.T, reach[:, None], upper=False, unitriangular=True
        )[:, 0]
        per_unit = torch.zeros(n)
        per_unit[rows] = reach / self.sums[rows].clamp(min=1e-10)
        features = self.kept[self.kept < len(self.waiting)]
        spread = torch.zeros(len(features))
        for part in torch.arange(n).split(64):
            spread += per_unit[part] @ self.edges[part, : len(features)].abs()
        influence = torch.full((len(self.waiting),), -1.0)
        influence[features] = spread
        return influence

    def matrix(self) -> tuple[Tensor, Tensor]:
        """Features kept, ascending, and the edges in an attribution graph's order."""
        kept, order = self.order.sort()
        fixed = torch.arange(len(self.waiting), self.sources.n_columns)
        columns = torch.searchsorted(self.kept, torch.cat([kept, fixed]))
        numbers = torch.cat([self.n_targets + order, torch.arange(self.n_targets)])
        return kept, self.edges[numbers[:, None], columns]
