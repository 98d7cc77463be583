"""Where each source of a prompt has its column while rows are computed.

Columns are sorted by position, so that a row, which no later position can cause, ends at the last
column of its own. At each position the token comes first, then layer by layer the active features
and the error: what is written at one layer and position lies side by side, also if features write
at several layers. At the positions of the prefix there are tokens only.
"""

from __future__ import annotations

import torch

from circuit_nb.model.record import Record


class Columns:
    """The order of columns.

    Args:
        record: The recorded pass.

    Attributes:
        features: Column of each active feature, (n_features,), in the record's order.
        tokens: Column of each token, (positions,).
        errors: Column of each error, (layers, positions); -1 at the prefix, where there is none.
        begins: First column of each layer's features, (layers, positions after the prefix).
        n: How many there are.
    """

    def __init__(self, record: Record) -> None:
        prefix, after = record.prefix, record.positions - record.prefix
        n_layers = len(record.patterns)
        layer, position, _ = record.features.cpu().T
        place = layer * after + position - prefix
        counts = torch.bincount(place, minlength=n_layers * after).view(n_layers, after)
        heights = torch.cat([torch.ones(after, 1, dtype=torch.int64), counts.T + 1], dim=1)
        ends = prefix + heights.flatten().cumsum(0).view_as(heights)
        begins = ends - heights
        self.counts = counts
        self.begins = begins[:, 1:].T.contiguous()
        self.tokens = torch.cat([torch.arange(prefix), begins[:, 0]])
        self.errors = torch.full((n_layers, record.positions), -1)
        self.errors[:, prefix:] = ends[:, 1:].T - 1
        # Features are sorted as places are: each is as far from its place's first as it comes.
        first = counts.flatten().cumsum(0) - counts.flatten()
        rank = torch.arange(len(place)) - first[place]
        self.features = self.begins.flatten()[place] + rank
        self.n = prefix + int(heights.sum())
        self._ends = torch.cat([torch.arange(1, prefix + 1), ends[:, -1]]).tolist()

    def up_to(self, position: int) -> int:
        """How many columns lie at positions up to this one."""
        return self._ends[position]
