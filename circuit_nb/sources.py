"""What wrote into the residual stream on one prompt: features, errors and tokens.

These are the columns of an attribution graph, in its order. A gradient that arrives where a layer
writes is contracted with everything written there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from circuit_nb.linear import Arrival
from circuit_nb.model import Record, ReplacementModel


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
        errors = torch.stack(record.writes).float()
        for layer, transcoder in enumerate(transcoders.layers):
            errors[layer] -= transcoder.b_dec.float() + transcoder.skip(record.reads[layer])
            here = self._columns(layer)
            acts = errors.new_zeros(self.positions, len(self._decoders[layer]))
            acts[record.features[here, 1], self._slots[here]] = record.activations[here].float()
            for offset, written in enumerate(transcoders.writes(layer)):
                errors[written] -= acts @ self._decoders[layer][:, offset].float()
        errors[:, : record.ignored] = 0
        return errors

    def encoders(self, features: Tensor) -> Tensor:
        """Encoder rows of active features, given by column, (n, d_model)."""
        chosen = self.record.features[features.to(self.record.features.device)]
        rows = torch.empty(len(chosen), self.errors.shape[2], device=chosen.device)
        for layer in chosen[:, 0].unique().tolist():
            here = chosen[:, 0] == layer
            transcoder = self.model.transcoders.layers[layer]
            rows[here] = transcoder.encoder_rows(chosen[here, 2]).float()
        return rows

    def contract(self, arrival: Arrival, edges: Tensor) -> None:
        """Add to `edges` (rows, n_columns) what arrives at one layer's sources."""
        gradient = arrival.gradient
        positions, n_rows, _ = gradient.shape
        into = edges[:n_rows]
        if arrival.layer < 0:
            tokens = self.record.embeddings[:positions, :, None].float()
            first = self.n_features + self.n_layers * self.positions
            into[:, first : first + positions] = torch.bmm(gradient, tokens)[:, :, 0].T
            return
        layer = arrival.layer
        first = self.n_features + layer * self.positions
        errors = self.errors[layer, :positions, :, None]
        into[:, first : first + positions] = torch.bmm(gradient, errors)[:, :, 0].T
        for reader in self.model.transcoders.readers(layer):
            self._contract_features(reader, layer, gradient, into)

    def _contract_features(self, reader: int, layer: int, gradient: Tensor, into: Tensor) -> None:
        """The features that read at `reader`, by what they write at `layer`."""
        positions = len(gradient)
        decoder = self._decoders[reader][:, layer - reader]
        counts = self._counts[reader, :positions]
        most = int(counts.max())
        if most == 0:
            return
        # Positions have different numbers of features: pad to the most, multiply once for all
        # positions, and drop the padding.
        column = self._begins[reader, :positions, None] + torch.arange(most)
        present = torch.arange(most) < counts[:, None]
        columns = column[present]
        slots = self._slots[torch.where(present, column, 0)]
        products = torch.bmm(gradient, decoder[slots].float().transpose(1, 2))
        values = products.transpose(0, 1)[:, present]
        here = slice(int(columns[0]), int(columns[-1]) + 1)
        into[:, here] += values * self.record.activations[here].float()
