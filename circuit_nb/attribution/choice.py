"""Which features' rows come next: those with the most influence through the rows known so far."""

from __future__ import annotations

import torch
from torch import Tensor

from circuit_nb.frozen.known_rows import KnownRows


class Choice:
    """The order in which features' rows are computed.

    Args:
        known: The rows computed so far, targets first.
        probabilities: The targets' weights, (targets,).
        n_features: How many active features there are.
        n_rows: How many of their rows are wanted.
        n_columns: How many columns can be kept. Where that is fewer than there are, the columns of
            the features that are most influential once the first quarter of the rows is known are
            kept, and only those features can still be chosen.
        n_layers: Layers of the model.

    Attributes:
        order: Feature of each row after the targets', in the order they were computed, (rows,).
        n_done: How many of them are computed.
    """

    def __init__(
        self,
        known: KnownRows,
        probabilities: Tensor,
        *,
        n_features: int,
        n_rows: int,
        n_columns: int,
        n_layers: int,
    ) -> None:
        self._known = known
        self._probabilities = probabilities
        self._n_rows, self._n_columns, self._n_layers = n_rows, n_columns, n_layers
        self._waiting = torch.ones(n_features, dtype=torch.bool)
        self.order = torch.zeros(n_rows, dtype=torch.int64)
        self.n_done = 0

    def next(self) -> Tensor:
        """The features to compute next, by influence; at least one while rows are missing.

        A quarter of the rows, then each time as many as are known, before influence is estimated
        anew.
        """
        if self._n_rows == len(self._waiting):
            return self._waiting.nonzero()[:, 0]
        influence = self._influence()
        if self.n_done and self._n_columns < len(self._known.kept):
            self._narrow(influence)
        influence[~self._waiting] = -1
        chunk = max(self.n_done, self._n_rows // 4, 16)
        return influence.topk(min(self._n_rows - self.n_done, chunk)).indices

    def done(self, features: Tensor) -> None:
        """Say that the rows of these features are among the known, in this order."""
        self.order[self.n_done : self.n_done + len(features)] = features
        self._waiting[features] = False
        self.n_done += len(features)

    def _narrow(self, influence: Tensor) -> None:
        """Keep only the columns that fit: errors, tokens, and the most influential features."""
        columns = self._known.columns
        kept = torch.ones(columns.n, dtype=torch.bool)
        kept[columns.features] = False
        ranked = torch.where(self._waiting, influence, float("inf"))
        best = ranked.topk(self._n_columns - int(kept.sum())).indices
        kept[columns.features[best]] = True
        self._known.narrow(kept.nonzero()[:, 0])

    def _influence(self) -> Tensor:
        """Influence of every active feature on the targets through the rows computed so far.

        Layer by layer from the top: when a layer's turn comes, all that its rows pass on has
        arrived. Features whose columns are not kept have -1.
        """
        known, n_targets = self._known, len(self._probabilities)
        places = torch.full((known.columns.n,), -1)
        places[known.kept] = torch.arange(len(known.kept))
        places = places[known.columns.features]
        influence = torch.zeros(len(known.kept))
        arrived = torch.cat([torch.arange(n_targets) - n_targets, places[self.order]])
        for layer in range(self._n_layers, -1, -1):
            for numbers, edges in known.at_layer(layer):
                above = layer == self._n_layers
                passed = self._probabilities[numbers] if above else influence[arrived[numbers]]
                passed = passed / known.sums[numbers].clamp(min=1e-10)
                influence[: edges.shape[1]] += passed @ edges.abs()
        return torch.where(places < 0, -1.0, influence[places])
