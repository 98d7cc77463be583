"""What wrote into the residual stream on one prompt: features, errors and tokens.

A gradient that arrives where a layer writes is contracted with everything written there. Each
source has a column (`circuit_nb.columns`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_nb.columns import Columns
from circuit_nb.linear import Arrival
from circuit_nb.memory import free_memory
from circuit_nb.model import Record, ReplacementModel

KEPT_BYTES = 2**29
"""Up to this size, what sources wrote is laid out once for all batches; beyond it, for each."""

SPAN_BYTES = 2**26
"""Size of what is laid out at a time."""

SHARE_OF_MEMORY = 0.25
"""How much of the free memory may be taken to keep what was written."""


@dataclass(frozen=True)
class _Written:
    """What sources write at one layer, at a span of positions."""

    begin: int
    """First position, counted from the prefix on."""
    vectors: Sequence[Tensor]
    """Of each position, (d_model, sources): activation × decoder row, or the error."""
    columns: Sequence[tuple[int, int]]
    """First column, and the one after the last, of each position's sources."""


class Sources:
    """Every source of a prompt and what it wrote.

    Decoder rows are read from the transcoders' files once for each feature that is active
    anywhere in the prompt. If what the sources write is small enough, all of it is laid out at the
    start; otherwise decoder rows are kept, one a feature however often it is active.

    Args:
        model: The model.
        record: Its recorded pass.

    Attributes:
        columns: Where each source has its column.
        errors: (layers, positions, d_model), zero on the ignored prefix.
    """

    def __init__(self, model: ReplacementModel, record: Record) -> None:
        self.model = model
        self.record = record
        self.n_layers, self.positions = len(model.blocks), record.positions
        self.columns = Columns(record)
        ends = self.columns.counts.sum(1).cumsum(0).tolist()
        self._features = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        """Which of the features read at each layer."""
        self._read_decoders()
        self.errors = self._errors()
        writes = [self._spread(layer) for layer in range(self.n_layers)]
        self._spans = [self._spans_of(begins, ends) for begins, ends in writes]
        size = sum(int((ends - begins).sum()) for begins, ends in writes) * self._row_bytes
        room = SHARE_OF_MEMORY * free_memory(self.errors.device)
        self._kept: dict[int, list[_Written]] = {}
        if size <= min(KEPT_BYTES, room):
            # From the top: a layer's decoders are not needed below it.
            for layer in reversed(range(self.n_layers)):
                self._kept[layer] = list(self._lay_out(layer, self.positions))
                self._decoders[layer] = torch.empty(0)

    @property
    def _row_bytes(self) -> int:
        return 4 * self.errors.shape[2]

    def _spread(self, layer: int) -> tuple[Tensor, Tensor]:
        """First column of what is written at a layer, and the one after the last, by position."""
        reader = self.model.transcoders.readers(layer)[0]
        return self.columns.begins[reader], self.columns.errors[layer, self.record.prefix :] + 1

    def _spans_of(self, begins: Tensor, ends: Tensor) -> list[tuple[int, int]]:
        """Positions cut into spans of about `SPAN_BYTES` each."""
        number = (ends - begins).cumsum(0) * self._row_bytes // SPAN_BYTES
        lengths = number.unique_consecutive(return_counts=True)[1].cumsum(0).tolist()
        return list(zip([0, *lengths[:-1]], lengths, strict=True))

    def _read_decoders(self) -> None:
        features = self.record.features
        self._decoders: list[Tensor] = []
        self._slots = torch.empty(len(features), dtype=torch.int64, device=features.device)
        for here, transcoder in zip(self._features, self.model.transcoders.layers, strict=True):
            unique, self._slots[here] = torch.unique(features[here, 2], return_inverse=True)
            self._decoders.append(transcoder.decoder.rows(unique))

    def _errors(self) -> Tensor:
        """MLP output minus reconstruction, by layer and position."""
        record, transcoders = self.record, self.model.transcoders
        device = record.features.device
        errors = torch.stack([written.to(device) for written in record.writes]).float()
        for layer, transcoder in enumerate(transcoders.layers):
            own = transcoder.b_dec.float() + transcoder.skip(record.reads[layer])
            errors[layer] -= own.to(device)
            here, decoder = self._features[layer], self._decoders[layer]
            acts = errors.new_zeros(self.positions, len(decoder))
            acts[record.features[here, 1], self._slots[here]] = record.activations[here].float()
            acts = acts.to(decoder.device)
            for offset, written in enumerate(transcoders.writes(layer)):
                errors[written] -= (acts @ decoder[:, offset].float()).to(device)
        errors[:, : record.ignored] = 0
        return errors

    def encoders(self, features: Tensor) -> Tensor:
        """Encoder rows of active features, given by number, (n, d_model)."""
        chosen = self.record.features[features.to(self.record.features.device)]
        rows = torch.empty(len(chosen), self.errors.shape[2], device=chosen.device)
        for layer in chosen[:, 0].unique().tolist():
            here = chosen[:, 0] == layer
            transcoder = self.model.transcoders.layers[layer]
            rows[here] = transcoder.encoder_rows(chosen[here, 2]).to(rows.device).float()
        return rows

    def contract(self, arrival: Arrival, edges: Sequence[Tensor]) -> None:
        """Add what arrives at one layer's sources, or at the tokens.

        Args:
            arrival: The gradients.
            edges: Of each group, (rows, columns up to its last position); changed in place.
        """
        if arrival.layer < 0:
            self._contract_tokens(arrival, edges)
            return
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

    def _contract_tokens(self, arrival: Arrival, edges: Sequence[Tensor]) -> None:
        prefix = self.record.prefix
        assert arrival.prefix is not None
        sizes = [len(into) for into in edges]
        shares = zip(edges, arrival.gradients, arrival.prefix.split(sizes), strict=True)
        for into, gradient, at_prefix in shares:
            own = slice(prefix, prefix + len(gradient))
            tokens = self.record.embeddings[own, :, None].float()
            into[:, :prefix] += at_prefix.to(into.device)
            products = torch.bmm(gradient, tokens)[:, :, 0].T
            into[:, self.columns.tokens[own].to(into.device)] = products.to(into.device)

    def _written_at(self, layer: int, positions: int) -> Iterator[_Written]:
        """What is written at a layer at so many positions from the prefix on, in spans."""
        kept = self._kept.get(layer)
        yield from self._lay_out(layer, positions) if kept is None else kept

    def _lay_out(self, layer: int, positions: int) -> Iterator[_Written]:
        begins, ends = self._spread(layer)
        for span in self._spans[layer]:
            if span[0] < positions:
                yield self._lay_out_span(layer, slice(*span), begins, ends)

    def _lay_out_span(self, layer: int, span: slice, begins: Tensor, ends: Tensor) -> _Written:
        """Everything written at a layer at some positions, side by side as the columns are.

        Where several layers' features write, columns of errors lie between them. An error writes at
        its own layer only: elsewhere it is zero.
        """
        columns, prefix = self.columns, self.record.prefix
        heights = (ends - begins)[span]
        # From a column to the place of what is written there, by position.
        shift = heights.cumsum(0) - heights - begins[span]
        device = self.model.blocks[layer].device
        vectors = torch.zeros(int(heights.sum()), self.errors.shape[2], device=device)
        for reader in self.model.transcoders.readers(layer):
            first = self._features[reader].start
            ranks = columns.counts[reader].cumsum(0)
            inside = columns.counts[reader, span]
            stop = first + int(ranks[span][-1])
            here = slice(stop - int(inside.sum()), stop)
            places = columns.features[here] + shift.repeat_interleave(inside)
            decoder = self._decoders[reader][:, layer - reader]
            rows = decoder[self._slots[here].to(decoder.device)].to(device).float()
            rows *= self.record.activations[here, None].to(device).float()
            vectors[places.to(device)] = rows
        own = columns.errors[layer, prefix:][span] + shift
        vectors[own.to(device)] = self.errors[layer, prefix:][span].to(device)
        return _Written(
            begin=span.start,
            vectors=[part.T for part in vectors.split(heights.tolist())],
            columns=list(zip(begins[span].tolist(), ends[span].tolist(), strict=True)),
        )


def _add_products(gradient: Sequence[Tensor], written: _Written, into: Tensor) -> None:
    """Add the products of gradients with what is written, position by position."""
    for by_row, vectors, (begin, end) in zip(
        gradient, written.vectors, written.columns, strict=False
    ):
        if vectors.device == into.device:
            into[:, begin:end].addmm_(by_row, vectors)
        else:
            into[:, begin:end] += (by_row @ vectors).to(into.device)
