"""What wrote into the residual stream on one prompt: features, errors and tokens.

These are the columns of an attribution graph, in its order. A gradient that arrives where a layer
writes is contracted with everything written there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_nb.linear import Arrival
from circuit_nb.model import Record, ReplacementModel

KEPT_BYTES = 2**27
"""Up to this size, what sources wrote is laid out once for all batches; beyond it, for each."""

SPAN_BYTES = 2**26
"""Size of what is laid out at a time."""


@dataclass(frozen=True)
class _Written:
    """What the features of one layer write at one layer, laid out by position."""

    vectors: Tensor
    """(positions, most features + 1, d_model), activation × decoder row; the error last."""
    places: Tensor
    """Where each feature lies in the first two axes of `vectors`, flattened."""
    ends: Tensor
    """How many features lie at or before each position."""
    first: int
    """Column of the first feature."""
    first_error: int | None
    """Column of the first error, if errors are among them."""


class Sources:
    """Every source of a prompt and what it wrote.

    Decoder rows are read from the transcoders' files once for each feature that is active
    anywhere in the prompt, and kept once, however often it is active.

    Args:
        model: The model.
        record: Its recorded pass.

    Attributes:
        n_columns: Features active, plus layers × positions of errors, plus positions of tokens.
    """

    def __init__(self, model: ReplacementModel, record: Record) -> None:
        self.model = model
        self.record = record
        self.n_layers, self.positions = len(model.blocks), record.positions
        self.n_features = len(record.features)
        self.n_columns = self.n_features + (self.n_layers + 1) * self.positions
        place = record.features[:, 0] * self.positions + record.features[:, 1]
        counts = torch.bincount(place, minlength=self.n_layers * self.positions)
        ends = counts.cumsum(0).view(self.n_layers, self.positions)
        self._counts = counts.view(self.n_layers, self.positions).cpu()
        self._begins = (ends - counts.view_as(ends)).cpu()
        self._read_decoders()
        self.errors = self._errors()
        """(layers, positions, d_model), zero on the ignored prefix."""
        self._spans = [self._spans_of(layer) for layer in range(self.n_layers)]
        self._kept: dict[tuple[int, int, int], _Written] = {}
        writes = model.transcoders.writes
        written = sum(len(writes(i)) * int(n.sum()) for i, n in enumerate(self._counts))
        self.keeps = 4 * written * self.errors.shape[2] <= KEPT_BYTES
        """Whether what was written is laid out once for all batches."""
        self._held = torch.empty(0)

    def _spans_of(self, layer: int) -> list[tuple[int, int]]:
        """Positions cut into spans of about `SPAN_BYTES` each."""
        most = int(self._counts[layer].max()) + 1
        length = max(1, SPAN_BYTES // (4 * most * self.errors.shape[2]))
        return [
            (begin, min(begin + length, self.positions))
            for begin in range(0, self.positions, length)
        ]

    def _read_decoders(self) -> None:
        features = self.record.features
        self._decoders: list[Tensor] = []
        self._slots = torch.empty(self.n_features, dtype=torch.int64, device=features.device)
        for layer, transcoder in enumerate(self.model.transcoders.layers):
            here = self._columns(layer)
            unique, self._slots[here] = torch.unique(features[here, 2], return_inverse=True)
            self._decoders.append(transcoder.decoder.rows(unique))

    def _columns(self, layer: int) -> slice:
        """Columns of the features that read at a layer."""
        begin = int(self._begins[layer, 0])
        return slice(begin, begin + int(self._counts[layer].sum()))

    def _errors(self) -> Tensor:
        """MLP output minus reconstruction, by layer and position."""
        record, transcoders = self.record, self.model.transcoders
        device = record.features.device
        errors = torch.stack([written.to(device) for written in record.writes]).float()
        for layer, transcoder in enumerate(transcoders.layers):
            own = transcoder.b_dec.float() + transcoder.skip(record.reads[layer])
            errors[layer] -= own.to(device)
            here, decoder = self._columns(layer), self._decoders[layer]
            acts = errors.new_zeros(self.positions, len(decoder))
            acts[record.features[here, 1], self._slots[here]] = record.activations[here].float()
            acts = acts.to(decoder.device)
            for offset, written in enumerate(transcoders.writes(layer)):
                errors[written] -= (acts @ decoder[:, offset].float()).to(device)
        errors[:, : record.ignored] = 0
        return errors

    def encoders(self, features: Tensor) -> Tensor:
        """Encoder rows of active features, given by column, (n, d_model)."""
        chosen = self.record.features[features.to(self.record.features.device)]
        rows = torch.empty(len(chosen), self.errors.shape[2], device=chosen.device)
        for layer in chosen[:, 0].unique().tolist():
            here = chosen[:, 0] == layer
            transcoder = self.model.transcoders.layers[layer]
            rows[here] = transcoder.encoder_rows(chosen[here, 2]).to(rows.device).float()
        return rows

    def contract(self, arrival: Arrival, edges: Tensor) -> None:
        """Add to `edges` (rows, n_columns) what arrives at one layer's sources."""
        gradient, layer = arrival.gradient, arrival.layer
        positions, rows, _ = gradient.shape
        into = edges[:rows]
        if layer < 0:
            tokens = self.record.embeddings[:positions, :, None].float()
            first = self.n_features + self.n_layers * self.positions
            products = torch.bmm(gradient, tokens)[:, :, 0].T
            into[:, first : first + positions] = products.to(into.device)
            return
        for reader in self.model.transcoders.readers(layer):
            for begin, end in self._spans[reader]:
                if begin < positions:
                    written = self._written_by(reader, layer, begin, end, gradient.device)
                    self._contract(gradient[begin:end], written, into)

    def _contract(self, gradient: Tensor, written: _Written, into: Tensor) -> None:
        positions, rows, _ = gradient.shape
        products = torch.bmm(gradient, written.vectors[:positions].transpose(1, 2))
        products = products.to(into.device)
        n = int(written.ends[positions - 1])
        by_row = products.transpose(0, 1).reshape(rows, -1)
        into[:, written.first : written.first + n] += by_row[:, written.places[:n]]
        if written.first_error is not None:
            errors = slice(written.first_error, written.first_error + positions)
            into[:, errors] = products[:, :, -1].T

    def _written_by(
        self, reader: int, layer: int, begin: int, end: int, device: torch.device
    ) -> _Written:
        """What the features that read at `reader` write at `layer`, at a span of positions.

        Positions have different numbers of features: all are padded to the most, so that one
        product serves them all. The layer's errors come last, beside its own features.
        """
        key = (reader, layer, begin)
        if key in self._kept:
            return self._kept[key]
        decoder = self._decoders[reader][:, layer - reader]
        counts = self._counts[reader, begin:end]
        first, most = int(self._begins[reader, begin]), int(counts.max())
        here = slice(first, first + int(counts.sum()))
        position = self.record.features[here, 1]
        rank = torch.arange(here.start, here.stop, device=position.device)
        rank -= self._begins[reader].to(position.device)[position]
        rows = decoder[self._slots[here].to(decoder.device)].to(position.device).float()
        rows *= self.record.activations[here, None].float()
        shape = (end - begin, most + 1, decoder.shape[1])
        vectors = rows.new_zeros(shape) if self.keeps else self._room(shape, rows.device).zero_()
        vectors[position - begin, rank] = rows
        own = reader == layer
        if own:
            vectors[:, -1] = self.errors[layer, begin:end]
        written = _Written(
            vectors.to(device),
            places=(position - begin) * (most + 1) + rank,
            ends=counts.cumsum(0),
            first=first,
            first_error=self.n_features + layer * self.positions + begin if own else None,
        )
        if self.keeps:
            self._kept[key] = written
        return written

    def _room(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Memory for what is not kept, the same every time: the CPU clears new pages slowly."""
        size = math.prod(shape)
        if len(self._held) < size or self._held.device != device:
            self._held = torch.empty(size, device=device)
        return self._held[:size].view(shape)
