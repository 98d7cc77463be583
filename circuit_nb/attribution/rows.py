"""Rows of attribution graphs, computed in order of their features' influence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from circuit_nb.attribution import budget
from circuit_nb.attribution.batches import Batches, groups_of_like_positions
from circuit_nb.attribution.choice import Choice
from circuit_nb.attribution.targets import ResolvedTargets
from circuit_nb.frozen.descent import Descent, FrozenModel
from circuit_nb.frozen.known_rows import KnownRows
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
        sources: What wrote.
        n_rows: How many feature rows to compute.
        share: How much of the memory for edges this graph may take.

    Raises:
        ValueError: If so many rows do not fit into memory.
    """

    def __init__(
        self,
        model: ReplacementModel,
        record: Record,
        targets: ResolvedTargets,
        sources: Sources,
        *,
        n_rows: int,
        share: float,
    ) -> None:
        self.model, self.record, self.targets = model, record, targets
        self.n_rows, self.n_targets = n_rows, len(targets.ids)
        self.sources = sources
        self.columns = self.sources.columns
        self.known = KnownRows(self.columns, self.n_targets + n_rows)
        self.choice = Choice(
            self.known,
            targets.probabilities,
            n_features=len(record.features),
            n_rows=n_rows,
            n_columns=budget.columns_that_fit(self.columns, self.n_targets, n_rows, share),
            n_layers=len(model.blocks),
        )
        self._layers = record.features[:, 0].cpu()
        self._positions = record.features[:, 1].cpu()
        self._chosen = torch.empty(0, dtype=torch.int64)
        """Features whose rows are being computed, in that order."""

    @property
    def missing(self) -> bool:
        """Whether there are rows that have not been computed."""
        return not len(self.known) or self.choice.n_done < self.n_rows

    def next(self) -> Starts:
        """The rows to compute next: the targets', then those of the most influential features."""
        if not len(self.known):
            rows = torch.arange(self.n_targets)
            layers = torch.full_like(rows, len(self.model.blocks))
            positions = torch.full_like(rows, self.record.positions - 1)
            return Starts(layers, positions, self.targets.directions, (self.n_targets,))
        groups = groups_of_like_positions(
            self.choice.next(), self._layers, self._positions, self.sources.device
        )
        self._chosen = torch.cat(groups)
        return Starts(
            self._layers[self._chosen],
            self._positions[self._chosen],
            self.sources.encoders(self._chosen),
            tuple(map(len, groups)),
        )

    def add(self, starts: Starts, edges: Sequence[Tensor]) -> int:
        """Keep rows that were computed, in the order in which `next` gave them.

        Args:
            starts: The rows.
            edges: Of each group, (rows, columns up to its last position).

        Returns:
            How many of them are of features.
        """
        self.known.add(starts, edges)
        done, self._chosen = self._chosen.tensor_split([len(starts)])
        self.choice.done(done)
        return len(done)

    def take_matrix(self) -> tuple[Tensor, Tensor]:
        """Features kept, ascending, and the edges in an attribution graph's order.

        To be called once, at the end: what has been copied is let go.
        """
        kept = self.choice.order.sort().values
        columns = torch.cat(
            [self.columns.features[kept], self.columns.errors.flatten(), self.columns.tokens]
        )
        after = torch.arange(self.n_targets) + self.n_rows
        rows = torch.cat([after, torch.searchsorted(kept, self.choice.order)])
        return kept, self.known.take_matrix(rows, columns)


class Rounds:
    """Computes the rows of several graphs of a model, those of all of them at once.

    Args:
        model: The model.
        graphs: The graphs.
        batch_size: The most rows computed at once; as many as memory allows if `None`. Halved when
            memory runs out.
    """

    def __init__(
        self, model: ReplacementModel, graphs: Sequence[Rows], batch_size: int | None
    ) -> None:
        self.model, self.graphs = model, graphs
        self.batches = Batches(
            batch_size or sum(rows.n_rows + rows.n_targets for rows in graphs),
            budget.batch_bytes(
                graphs[0].sources.device, laid_out_once=all(g.sources.keeps for g in graphs)
            ),
        )
        self.descent = Descent(FrozenModel(model, [rows.record for rows in graphs]))

    def run(self) -> Iterator[int]:
        """Compute all rows, and yield how many of features each batch had."""
        while wanted := [(i, rows.next()) for i, rows in enumerate(self.graphs) if rows.missing]:
            starts = Starts.joined(wanted)
            columns = [self.graphs[owner].columns for owner in starts.owners]
            sizes = [
                budget.row_bytes(self.model, own, last)
                for own, last in zip(columns, starts.lasts, strict=True)
            ]
            for batch in self.batches.cut(starts, sizes):
                try:
                    done = self._compute(batch)
                except RuntimeError as error:
                    if not (is_out_of_memory(error) and self.batches.halve()):
                        raise
                    self.descent.clear()
                else:
                    yield done

    def _compute(self, starts: Starts) -> int:
        edges, at_tokens = list[Tensor](), list[Tensor]()
        for owner, rows, last in zip(starts.owners, starts.sizes, starts.lasts, strict=True):
            own = self.graphs[owner]
            width, device = own.columns.up_to(last), own.sources.device
            edges.append(torch.zeros(rows, width, device=device))
            at_tokens.append(torch.zeros(rows, last + 1, device=own.record.embeddings.device))
        by_owner = list(starts.by_owner())
        for arrival in self.descent.run(starts, at_tokens):
            for owner, groups, _ in by_owner:
                self.graphs[owner].sources.contract(arrival.of(groups), edges[groups])
        for into, found, owner in zip(edges, at_tokens, starts.owners, strict=True):
            columns = self.graphs[owner].columns.tokens[: found.shape[1]].to(into.device)
            into[:, columns] = found.to(into.device)
        return sum(self.graphs[owner].add(own, edges[groups]) for owner, groups, own in by_owner)
