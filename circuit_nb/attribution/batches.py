"""How chosen rows are cut: into groups of like positions, and into batches that fit."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from circuit_nb.frozen import tuning
from circuit_nb.frozen.starts import Starts


def groups_of_like_positions(
    chosen: Tensor, layers: Tensor, positions: Tensor, device: torch.device
) -> list[Tensor]:
    """Cut features into groups of like positions, in each the highest layer first.

    A group is computed up to its last position for all its rows. So it ends where going on to the
    next position would cost its rows more than a group costs by itself.

    Args:
        chosen: Numbers of the features.
        layers: Layer of every feature.
        positions: Position of every feature.
        device: Where the rows are computed.
    """
    cost = tuning.GROUP_COST.get(device.type, tuning.OTHER_GROUP_COST)
    by_position = chosen[torch.argsort(positions[chosen], stable=True)]
    there, counts = positions[by_position].unique_consecutive(return_counts=True)
    sizes, before = [0], 0
    for position, count in zip(there.tolist(), counts.tolist(), strict=True):
        if sizes[-1] * (position - before) > cost * (position + 1):
            sizes.append(0)
        sizes[-1] += count
        before = position
    return [group[torch.argsort(-layers[group], stable=True)] for group in by_position.split(sizes)]


class Batches:
    """Batches of rows: as many at once as should fit, and fewer if memory runs out all the same.

    Args:
        most_rows: The most rows of a batch.
        most_bytes: The most working memory of a batch.
    """

    def __init__(self, most_rows: int, most_bytes: int) -> None:
        self.most_rows = most_rows
        self.most_bytes = most_bytes
        self._rows = 0

    def cut(self, starts: Starts, row_bytes: list[int]) -> Iterator[Starts]:
        """The batches of some rows, in order.

        After `halve`, the last batch comes again, smaller.

        Args:
            starts: The rows.
            row_bytes: Working memory of one row of each group.
        """
        by_row = torch.tensor(row_bytes).repeat_interleave(torch.tensor(starts.sizes))
        done = 0
        while done < len(starts):
            fit = int((by_row[done:].cumsum(0) <= self.most_bytes).sum())
            part = starts.part(done, done + max(1, min(fit, self.most_rows)))
            self._rows = len(part)
            yield part
            done += self._rows

    def halve(self) -> bool:
        """Have the last batch again, half as large; False if it was a single row."""
        if self._rows == 1:
            return False
        self.most_rows, self._rows = self._rows // 2, 0
        return True
