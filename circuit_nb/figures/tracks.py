"""How columns and rows share the room there is, by how much they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

SLOT, LANE = 14.0, 13.0
"""Width and height that one node needs, pixels."""

Cell: TypeAlias = tuple[int, int]
"""(row track, column track), by number from below and from the left."""


@dataclass
class Track:
    """A column or a row of the picture, or several that hold nothing, folded into one."""

    keys: tuple[int, ...]
    """The positions, or the levels, it stands for."""
    least: float
    """Pixels it needs in any case."""
    places: int = 1
    """How many nodes stand side by side in it."""
    size: float = 0.0
    """Pixels it got."""
    start: float = 0.0
    """Where it begins, pixels from the left or from below."""
    demand: float = field(default=1.0)
    """By how much it takes part in what room is left over."""

    @property
    def folded(self) -> bool:
        """Whether it stands for several that hold nothing."""
        return len(self.keys) > 1

    @property
    def middle(self) -> float:
        """Its middle, pixels from the left or from below."""
        return self.start + self.size / 2


def grow(
    counts: Mapping[Cell, int],
    rows: Sequence[Track],
    columns: Sequence[Track],
    budget: tuple[float, float],
) -> None:
    """Give crowded cells more lanes or more slots, until all fit or the room is used up.

    The cell that lacks most comes first, and takes what costs the smaller part of what is left;
    rather more slots than lanes, so that layers can be told apart.

    Args:
        counts: How many nodes each cell holds.
        rows: The rows; `places` and `least` grow.
        columns: The columns; `places` and `least` grow.
        budget: Pixels that columns and rows may grow by, in all.
    """
    across, up = budget
    waiting = dict(counts)
    while waiting:
        cell = max(waiting, key=lambda c: waiting[c] - rows[c[0]].places * columns[c[1]].places)
        row, column = rows[cell[0]], columns[cell[1]]
        if waiting[cell] <= row.places * column.places:
            return
        wider = SLOT * (-(-waiting[cell] // row.places) - column.places)
        higher = LANE * (-(-waiting[cell] // column.places) - row.places)
        if across >= SLOT and (up < LANE or wider / across <= 2 * higher / up):
            column.places += 1
            column.least += SLOT
            across -= SLOT
        elif up >= LANE:
            row.places += 1
            row.least += LANE
            up -= LANE
        else:
            del waiting[cell]


def stretch(tracks: Sequence[Track], room: float, most: float = float("inf")) -> float:
    """Set sizes and starts: what each needs, and what is left over by demand.

    Args:
        tracks: The tracks, in order.
        room: Pixels there are.
        most: Pixels that a track takes beyond its need at most; where all have taken as much, the
            rest is shared evenly.

    Returns:
        Pixels used: `room`, or what the tracks need if that is more.
    """
    left = max(0.0, room - sum(t.least for t in tracks))
    whole = sum(t.demand for t in tracks) or 1.0
    given = [min(most, left * t.demand / whole) for t in tracks]
    even = (left - sum(given)) / max(len(tracks), 1)
    at = 0.0
    for track, extra in zip(tracks, given, strict=True):
        track.start, track.size = at, track.least + extra + even
        at += track.size
    return at
