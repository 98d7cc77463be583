"""What the layers wrote into the residual stream on one prompt: features and errors.

A gradient that arrives where a layer writes is contracted with everything written there. Each
source has a column (`circuit_nb.frozen.columns`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_nb.frozen import tuning
from circuit_nb.frozen.buffer import Buffer
from circuit_nb.frozen.columns import Columns
from circuit_nb.frozen.starts import Arrival
from circuit_nb.model.memory import free_memory
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel


@dataclass(frozen=True)
class _Written:
    """What sources write at one layer, at a span of positions."""

    begin: int
    """First position, counted from the prefix on."""
    vectors: Sequence[Tensor]
    """Of each position, (d_model, sources): activation × decoder row, or the error."""
    columns: Sequence[tuple[int, int]]
    """First column, and the one after the last, of each position's sources."""


class Decoders:
    """Decoder rows of the features that are active in some passes, read once and kept once,
    however often a feature is active.

    Args:
        model: The model.
        records: The passes.

    Attributes:
        rows: Of each layer, (1 + rows, d_model) in the files' type: an empty row, then those of
            the features that write there, lower readers first.
        slots: Of each pass, the number of each active feature's row, (n_features,), the same in
            every layer it writes at.
    """

    def __init__(self, model: ReplacementModel, records: Sequence[Record]) -> None:
        transcoders, every = model.transcoders, torch.cat([r.features.cpu() for r in records])
        numbers = [(every[:, 0] == reader).nonzero()[:, 0] for reader in range(len(model.blocks))]
        active = [every[here, 2].unique(return_inverse=True) for here in numbers]
        size = [len(unique) for unique, _ in active]
        decoders: dict[int, Tensor] = {}
        slots = torch.zeros(len(every), dtype=torch.int64)
        for reader, (unique, place) in enumerate(active):
            rows = transcoders.layers[reader].decoder.rows(unique)
            first = 1 + sum(size[r] for r in transcoders.readers(reader)[:-1])
            slots[numbers[reader]] = first + place
            for offset, layer in enumerate(transcoders.writes(reader)):
                if layer not in decoders:
                    n = 1 + sum(size[r] for r in transcoders.readers(layer))
                    shape, device = (n, rows.shape[2]), model.blocks[layer].device
                    decoders[layer] = torch.empty(shape, dtype=rows.dtype, device=device)
                    decoders[layer][0] = 0
                into = decoders[layer][first : first + len(unique)]
                into[:] = rows[:, offset].to(into.device)
        self.rows = [decoders[layer] for layer in range(len(model.blocks))]
        self.slots = slots.split([len(record.features) for record in records])
        self._needed = [len(records)] * len(self.rows)

    def let_go(self, layer: int) -> None:
        """Say that one of the passes needs a layer's rows no more."""
        self._needed[layer] -= 1
        if not self._needed[layer]:
            self.rows[layer] = torch.empty(0)


class Sources:
    """Every source of a prompt but its tokens, and what it wrote.

    If what the sources write is small enough, all of it is laid out at the start, for all batches;
    otherwise decoder rows are kept.

    Args:
        model: The model.
        record: Its recorded pass.
        decoders: Decoder rows of its features, and of others'.
        number: Which of the passes that were read for it is.

    Attributes:
        columns: Where each source has its column.
        keeps: Whether what was written is laid out once for all batches.
    """

    def __init__(
        self, model: ReplacementModel, record: Record, decoders: Decoders, number: int = 0
    ) -> None:
        self.model = model
        self.record = record
        self.n_layers = len(model.blocks)
        self.device = record.features.device
        self.columns = Columns(record)
        self._decoders = decoders.rows
        # By column; an error has the empty row that comes first in each layer's.
        self._slots = torch.zeros(self.columns.n, dtype=torch.int64)
        self._slots[self.columns.features] = decoders.slots[number]
        self._scales = torch.zeros(self.columns.n)
        self._scales[self.columns.features] = record.activations.cpu().float()
        self._spans = [self._spans_of(layer) for layer in range(self.n_layers)]
        self._spans_buffer = Buffer()
        written = sum(
            int((end - begin).sum()) for begin, end in map(self._spread, range(self.n_layers))
        )
        self._kept: dict[int, list[_Written]] = {}
        room = tuning.WRITTEN_SHARE * free_memory(self.device)
        self.keeps = written * self._row_bytes <= min(tuning.KEPT_BYTES, room)
        if self.keeps:
            for layer in range(self.n_layers):
                spans = self._spans[layer]
                self._kept[layer] = [self._lay_out(layer, span, keep=True) for span in spans]
                decoders.let_go(layer)

    @property
    def _row_bytes(self) -> int:
        return 4 * self.record.embeddings.shape[1]

    def _spread(self, layer: int) -> tuple[Tensor, Tensor]:
        """First column of what is written at a layer, and the one after the last, by position."""
        reader = self.model.transcoders.readers(layer)[0]
        return self.columns.begins[reader], self.columns.errors[layer, self.record.prefix :] + 1

    def _spans_of(self, layer: int) -> list[slice]:
        """Positions cut into spans of about `tuning.SPAN_BYTES` each."""
        begins, ends = self._spread(layer)
        number = (ends - begins).cumsum(0) * self._row_bytes // tuning.SPAN_BYTES
        stops = number.unique_consecutive(return_counts=True)[1].cumsum(0).tolist()
        return [slice(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True)]

    def encoders(self, features: Tensor) -> Tensor:
        """Encoder rows of active features, given by number, (n, d_model)."""
        chosen = self.record.features[features.to(self.record.features.device)]
        rows = torch.empty(len(chosen), self.record.embeddings.shape[1], device=chosen.device)
        for layer in chosen[:, 0].unique().tolist():
            here = chosen[:, 0] == layer
            transcoder = self.model.transcoders.layers[layer]
            rows[here] = transcoder.encoder_rows(chosen[here, 2]).to(rows.device).float()
        return rows

    def contract(self, arrival: Arrival, edges: Sequence[Tensor]) -> None:
        """Add what arrives at one layer's sources.

        Args:
            arrival: The gradients.
            edges: Of each group, (rows, columns up to its last position); changed in place.
        """
        gradients = [gradient.unbind() for gradient in arrival.gradients]
        intos = [
            into[: gradient.shape[1]]
            for into, gradient in zip(edges, arrival.gradients, strict=True)
        ]
        most = max(len(gradient) for gradient in gradients)
        for written in self._written_at(arrival.layer, most):
            for gradient, into in zip(gradients, intos, strict=True):
                if len(into):
                    _add_products(gradient[written.begin :], written, into)

    def _written_at(self, layer: int, positions: int) -> Iterator[_Written]:
        """What is written at a layer at so many positions from the prefix on, in spans."""
        if layer in self._kept:
            yield from self._kept[layer]
            return
        for span in self._spans[layer]:
            if span.start < positions:
                yield self._lay_out(layer, span)

    def _lay_out(self, layer: int, span: slice, *, keep: bool = False) -> _Written:
        """Everything written at a layer at some positions, side by side as the columns are.

        Args:
            layer: The layer.
            span: The positions, counted from the prefix on.
            keep: Whether it outlasts the next call.
        """
        begins, ends = (x[span] for x in self._spread(layer))
        heights = ends - begins
        stops = heights.cumsum(0)
        columns = torch.arange(int(stops[-1])) + (ends - stops).repeat_interleave(heights)
        decoder = self._decoders[layer]
        shape = (len(columns), decoder.shape[1])
        into = (Buffer() if keep else self._spans_buffer).take(shape, decoder.device)
        into.copy_(decoder.index_select(0, self._slots[columns].to(decoder.device)))
        into.mul_(self._scales[columns, None].to(decoder.device))
        by_position = into.split(heights.tolist())
        reconstructed = torch.stack([part.sum(0) for part in by_position])
        into[(stops - 1).to(into.device)] = self._unexplained(layer, span, reconstructed)
        return _Written(
            begin=span.start,
            vectors=[part.T for part in by_position],
            columns=list(zip(begins.tolist(), ends.tolist(), strict=True)),
        )

    def _unexplained(self, layer: int, span: slice, reconstructed: Tensor) -> Tensor:
        """The errors of a layer: what its MLP wrote, minus what features, bias and skip path do.

        Args:
            layer: The layer.
            span: The positions, counted from the prefix on.
            reconstructed: What the features write there, (positions, d_model).
        """
        here = slice(self.record.prefix + span.start, self.record.prefix + span.stop)
        errors = caused(self.model, self.record, layer, here) - reconstructed
        errors[: max(0, self.record.ignored - here.start)] = 0
        return errors


def caused(model: ReplacementModel, record: Record, layer: int, positions: slice) -> Tensor:
    """What features and errors together make an MLP write, (positions, d_model): all but bias and
    skip path, and nothing where positions are ignored."""
    transcoder = model.transcoders.layers[layer]
    written, read = record.writes[layer][positions], record.reads[layer][positions]
    found = written.float() - (transcoder.b_dec.float() + transcoder.skip(read))
    found[: max(0, record.ignored - positions.start)] = 0
    return found


def _add_products(gradient: Sequence[Tensor], written: _Written, into: Tensor) -> None:
    """Add the products of gradients with what is written, position by position."""
    for by_row, vectors, (begin, end) in zip(
        gradient, written.vectors, written.columns, strict=False
    ):
        if vectors.device == into.device:
            into[:, begin:end].addmm_(by_row, vectors)
        else:
            into[:, begin:end] += (by_row @ vectors).to(into.device)
