"""Where the boxes of the subgraph stand, so that edges run beside boxes and not through them."""

from __future__ import annotations

from functools import lru_cache

BOX, ROW, GAP, EDGE = 40.0, 92.0, 18.0, 26.0
"""Height of a box, distance of two rows, space between boxes and at the edges, pixels."""
NARROWEST = 560.0
"""Room for the boxes of a row at least, pixels."""
STEP, REACH = 22.0, 14
"""How far apart places are tried, and how many on either side."""
CROSSING = 300.0
"""What an edge through a box counts as much as, in pixels away from where a box belongs."""

Edges = tuple[tuple[int, int], ...]


@lru_cache(maxsize=64)
def arrange(
    rows: tuple[int, ...], across: tuple[float, ...], widths: tuple[float, ...], edges: Edges
) -> tuple[float, ...]:
    """Centres of the boxes, pixels from the left.

    From the bottom row up, each box takes the place nearest to its position in the prompt at
    which it overlaps no box and the fewest edges to lower rows run through boxes.

    Args:
        rows: Row of each box, 0 at the bottom.
        across: Mean position in the prompt of each box.
        widths: Width of each box, pixels.
        edges: (source, target) by number of the box.
    """
    if not rows:
        return ()
    members = {row: [i for i, r in enumerate(rows) if r == row] for row in set(rows)}
    needed = max(sum(widths[i] + GAP for i in inside) for inside in members.values())
    room = max(needed, NARROWEST)
    low, high = min(across), max(across)
    wished = [EDGE + room * ((a - low) / (high - low) if high > low else 0.5) for a in across]
    x: dict[int, float] = {}
    for row in sorted(members):
        _side_by_side(sorted(members[row], key=lambda i: wished[i]), wished, widths, room, x)
    # Twice: the first time some edges still lead to where their other end no longer is.
    for row in 2 * sorted(members):
        for i in members[row] if row else ():
            others = {j: place for j, place in x.items() if j != i}
            tried = [x[i]] + [wished[i] + STEP * k for k in range(-REACH, REACH + 1)]
            half = widths[i] / 2
            free = [
                p
                for p in tried
                if EDGE + half <= p <= EDGE + room - half
                and all(
                    abs(p - others[j]) >= half + widths[j] / 2 + GAP for j in members[row] if j != i
                )
            ]
            if free:
                x[i] = min(
                    free,
                    key=lambda p: (
                        abs(p - wished[i])
                        + CROSSING * _crossings(i, {**others, i: p}, rows, widths, edges)
                    ),
                )
    return tuple(x[i] for i in range(len(rows)))


def _side_by_side(
    order: list[int],
    wished: list[float],
    widths: tuple[float, ...],
    room: float,
    x: dict[int, float],
) -> None:
    """Put the boxes of one row where they belong, pushed apart until none overlap."""
    left = EDGE
    for i in order:
        x[i] = max(wished[i], left + widths[i] / 2)
        left = x[i] + widths[i] / 2 + GAP
    right = EDGE + room
    for i in reversed(order):
        x[i] = min(x[i], right - widths[i] / 2)
        right = x[i] - widths[i] / 2 - GAP


def _crossings(
    box: int, x: dict[int, float], rows: tuple[int, ...], widths: tuple[float, ...], edges: Edges
) -> int:
    """How many boxes the edges of one box run through, and how many edges run through it."""
    count = 0
    for source, target in edges:
        low, high = sorted((source, target), key=lambda i: rows[i])
        own = box in (source, target)
        between = range(rows[low] + 1, rows[high])
        for row in between if own else {rows[box]}.intersection(between):
            share = (row - rows[low]) / (rows[high] - rows[low])
            at = x[low] + share * (x[high] - x[low])
            met = (j for j in x if rows[j] == row) if own else (box,)
            count += sum(abs(at - x[j]) < widths[j] / 2 + 6 for j in met)
    return count
