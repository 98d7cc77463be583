"""Rows of the attribution graph, computed in order of their features' influence."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from circuit_nb.attribution import budget
from circuit_nb.attribution.batches import Batches, groups_of_like_positions
from circuit_nb.attribution.choice import Choice
from circuit_nb.attribution.known_rows import KnownRows
from circuit_nb.attribution.targets import ResolvedTargets
from circuit_nb.frozen.descent import Descent, FrozenModel
from circuit_nb.frozen.starts import Starts
from circuit_nb.frozen.written import Sources
from circuit_nb.model.memory import is_out_of_memory
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel


class Rows:
    """The rows of one graph.

    All columns are kept if they fit into memory; see `Choice` for what is kept if not.

    Args:
        model: The model.
        record: Its recorded pass.
        targets: What is explained.
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
        targets: ResolvedTargets,
        *,
        n_rows: int,
        batch_size: int | None,
    ) -> None:
        self.model, self.record, self.targets = model, record, targets
        self.n_rows, self.n_targets = n_rows, len(targets.ids)
        self.sources = Sources(model, record)
        self.columns = self.sources.columns
        self.known = KnownRows(self.columns, self.n_targets + n_rows)
        self.choice = Choice(
            self.known,
            targets.probabilities,
            n_features=len(record.features),
            n_rows=n_rows,
            n_columns=budget.columns_that_fit(self.columns, self.n_targets, n_rows),
            n_layers=len(model.blocks),
        )
        self.batches = Batches(
            batch_size or n_rows + self.n_targets,
            budget.batch_bytes(self.sources.device, laid_out_once=self.sources.keeps),
        )
        self.descent = Descent(FrozenModel(model, record))
        self._layers = record.features[:, 0].cpu()
        self._positions = record.features[:, 1].cpu()

    def add_targets(self) -> None:
        """Compute the targets' rows."""
        rows = torch.arange(self.n_targets)
        layers = torch.full_like(rows, len(self.model.blocks))
        positions = torch.full_like(rows, self.record.positions - 1)
        starts = Starts(layers, positions, self.targets.directions, (self.n_targets,))
        for _ in self._compute(starts):
            pass

    def add_features(self) -> Iterator[int]:
        """Compute the rows of the next most influential features.

        Yields:
            How many were computed, batch by batch.
        """
        groups = groups_of_like_positions(
            self.choice.next(), self._layers, self._positions, self.sources.device
        )
        features = torch.cat(groups)
        starts = Starts(
            self._layers[features],
            self._positions[features],
            self.sources.encoders(features),
            tuple(map(len, groups)),
        )
        for n in self._compute(starts):
            done, features = features.tensor_split([n])
            self.choice.done(done)
            yield n

    def _compute(self, starts: Starts) -> Iterator[int]:
        """Compute rows, batch by batch, and yield how many each had."""
        sizes = [budget.row_bytes(self.model, self.columns, last) for last in starts.lasts]
        for batch in self.batches.cut(starts, sizes):
            try:
                self._compute_at_once(batch)
            except RuntimeError as error:
                if not (is_out_of_memory(error) and self.batches.halve()):
                    raise
                self.descent.clear()
            else:
                yield len(batch)

    def _compute_at_once(self, starts: Starts) -> None:
        edges = [
            torch.zeros(rows, self.columns.up_to(last), device=self.sources.device)
            for rows, last in zip(starts.sizes, starts.lasts, strict=True)
        ]
        at_tokens = [
            torch.zeros(rows, last + 1, device=self.record.embeddings.device)
            for rows, last in zip(starts.sizes, starts.lasts, strict=True)
        ]
        for arrival in self.descent.run(starts, at_tokens):
            self.sources.contract(arrival, edges)
        for into, found in zip(edges, at_tokens, strict=True):
            columns = self.columns.tokens[: found.shape[1]].to(into.device)
            into[:, columns] = found.to(into.device)
        self.known.add(starts, edges)

    def take_matrix(self) -> tuple[Tensor, Tensor]:
        """Features kept, ascending, and the edges in an attribution graph's order.

        To be called once, at the end: memory of descents, and what has been copied, is let go.
        """
        self.descent.clear()
        kept = self.choice.order.sort().values
        columns = torch.cat(
            [self.columns.features[kept], self.columns.errors.flatten(), self.columns.tokens]
        )
        after = torch.arange(self.n_targets) + self.n_rows
        rows = torch.cat([after, torch.searchsorted(kept, self.choice.order)])
        return kept, self.known.take_matrix(rows, columns)
