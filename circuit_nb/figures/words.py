"""Which words stand where on the picture, so that none lies on another, on a node, or outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.figures.style import LEADING, SMALL, text_width, two_lines

LINE_LENGTH = 20
"""Characters of a line of a word on the picture."""
GAP = 4.0
"""Between a node and its word, pixels."""
FAR, STEP = 170.0, 13.0
"""How far from its node a word may stand, and in which steps places are tried, pixels."""
LEADER = 16.0
"""A word further from its node than this has a line to it."""
CROSSED = 25.0
"""What it costs a word to be crossed by a path: as much as to stand some thirty pixels away."""
MISLEADING = 40.0
"""What it costs that the line to its node runs over another node, or another word: more."""

Boxes: TypeAlias = npt.NDArray[np.float64]
"""(count, 4): left, bottom, right, top, pixels."""


class Wish(NamedTuple):
    """A word wanted beside a node."""

    number: int
    """Of the node, in node order."""
    text: str
    """What it is called; plain text."""
    bold: bool = False
    size: int = SMALL


class Word(NamedTuple):
    """A word that has a place."""

    number: int
    """Of the node it belongs to."""
    lines: tuple[str, ...]
    """One or two lines of plain text."""
    x: float
    """Of the side that is next to the node, or of the middle; pixels."""
    y: float
    """Of the middle; pixels."""
    side: str
    """Where the text lies from (x, y): `left`, `center` or `right`."""
    box: tuple[float, float, float, float]
    """What it covers: left, bottom, right, top, pixels."""
    leader: tuple[float, float] | None
    """Where a line to the node begins, if the word stands away from it."""
    bold: bool
    size: int


class Words:
    """A picture being filled with words.

    Args:
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        x: (n_nodes,) where the nodes are, pixels; NaN where a node is not drawn.
        y: (n_nodes,) the same from below.
        sizes: (n_nodes,) diameters of the nodes, pixels.
        avoid: (count, 2) points that words cover only where there is no other room.
    """

    def __init__(
        self,
        width: float,
        height: float,
        x: npt.NDArray[np.float64],
        y: npt.NDArray[np.float64],
        sizes: npt.NDArray[np.float64],
        avoid: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self._size = (width, height)
        self._x, self._y, self._half = x, y, sizes / 2
        drawn = ~np.isnan(x)
        half = self._half[drawn] + 1
        self._nodes = np.stack(
            [x[drawn] - half, y[drawn] - half, x[drawn] + half, y[drawn] + half], axis=1
        )
        self._avoid = np.zeros((0, 2)) if avoid is None else avoid
        self.words: list[Word] = []
        """What has a place, in the order of asking."""

    def copy(self) -> Words:
        """The same picture, to be filled in another way from here on."""
        made = Words.__new__(Words)
        made.__dict__.update(self.__dict__)
        made.words = list(self.words)
        return made

    def block(self, boxes: Iterable[Sequence[float]]) -> None:
        """Keep places free of words."""
        more = np.array([*boxes], dtype=np.float64).reshape(-1, 4)
        self._nodes = np.concatenate([self._nodes, more])

    def put(self, word: Word) -> None:
        """Add a word at a place chosen elsewhere."""
        self.words.append(word)
        self.block([word.box])

    def fit(self, wish: Wish) -> Word | None:
        """Find a place for a word, as near to its node as there is room; None where there is none.

        Two lines where one line finds no place beside the node.
        """
        if np.isnan(self._x[wish.number]):
            return None
        whole = two_lines(wish.text, 2 * LINE_LENGTH)
        forms = [whole] if "\n" not in whole and len(whole) <= LINE_LENGTH else []
        broken = two_lines(wish.text, max(LINE_LENGTH, 1))
        halved = two_lines(wish.text, max(8, -(-len(wish.text) // 2) + 2))
        forms += [broken] if broken not in forms else []
        forms += [halved] if halved not in forms and halved.count("…") == 0 else []
        found = [w for form in forms if (w := self._try(wish, tuple(form.split("\n")))) is not None]
        if not found:
            return None
        cost, word = min(found, key=lambda pair: pair[0])
        del cost
        self.put(word)
        return word

    def _try(self, wish: Wish, lines: tuple[str, ...]) -> tuple[float, Word] | None:
        width = max(text_width(line, wish.size, bold=wish.bold) for line in lines)
        height = wish.size * LEADING * len(lines)
        x, y = float(self._x[wish.number]), float(self._y[wish.number])
        gap = float(self._half[wish.number]) + GAP
        shifts = _shifts(width, height, gap)
        low = np.stack([x + shifts[:, 0] - width / 2, y + shifts[:, 1] - height / 2], axis=1)
        boxes = np.concatenate([low, low + (width, height)], axis=1)
        inside = (
            (low >= 0).all(axis=1) & (boxes[:, 2] <= self._size[0]) & (boxes[:, 3] <= self._size[1])
        )
        free = inside & ~_meet(boxes, self._nodes).any(axis=1)
        if not free.any():
            return None
        held = _hold(boxes, self._avoid).sum(axis=1)
        cost = shifts[:, 2] + CROSSED * (held > 0) + 0.5 * held + 3.0 * (len(lines) - 1)
        cost[~free] = np.inf
        seen: dict[int, Word] = {}
        while (best := int(cost.argmin())) not in seen:
            seen[best] = _word(wish, lines, boxes[best], (x, y), gap)
            cost[best] += MISLEADING * self._misleads(seen[best])
        return float(cost[best]), seen[best]

    def _misleads(self, word: Word) -> bool:
        """Whether a word's line runs over something else before it comes to the word's node."""
        if word.leader is None:
            return False
        way = np.array([self._x[word.number], self._y[word.number]]) - word.leader
        steps = np.linspace(0, 1, 2 + int(np.hypot(*way) / 3))
        over = _hold(self._nodes, word.leader + steps[:, None] * way)
        over[np.count_nonzero(~np.isnan(self._x[: word.number]))] = False
        return bool(over.any())


def _shifts(width: float, height: float, gap: float) -> npt.NDArray[np.float64]:
    """Places tried around a node: (count, 3), the middle's shift in x and y, and its cost."""
    right, up = gap + width / 2, gap + height / 2 - 2
    near = [
        (right, 0.0, 0.0),
        (-right, 0.0, 0.0),
        (0.0, up, 4.0),
        (0.0, -up, 5.0),
        *((dx * right * 0.9, dy * up, 6.0) for dx in (1, -1) for dy in (1, -1)),
    ]
    far: list[tuple[float, float, float]] = []
    for out in np.arange(STEP, FAR, STEP).tolist():
        for rise in np.arange(-4 * STEP, 4.5 * STEP, STEP).tolist():
            cost = 10.0 + 0.5 * out + 0.5 * abs(rise)
            far += [(right + out, rise, cost), (-right - out, rise, cost)]
    for rise in np.arange(up + STEP, 5 * STEP, STEP).tolist():
        far += [(dx, dy * rise, 12.0 + 0.6 * rise) for dx in (-20.0, 0.0, 20.0) for dy in (1, -1)]
    return np.array(near + far)


def _word(
    wish: Wish,
    lines: tuple[str, ...],
    box: npt.NDArray[np.float64],
    at: tuple[float, float],
    gap: float,
) -> Word:
    left, bottom, right, top = (float(v) for v in box)
    middle = (bottom + top) / 2
    side = "right" if left >= at[0] else "left" if right <= at[0] else "center"
    x = {"right": left, "left": right, "center": (left + right) / 2}[side]
    near = min(max(at[0], left), right), min(max(at[1], bottom), top)
    away = float(np.hypot(near[0] - at[0], near[1] - at[1]))
    leader = (x, middle if side != "center" else near[1]) if away > gap + LEADER else None
    return Word(
        wish.number, lines, x, middle, side, (left, bottom, right, top), leader, wish.bold,
        wish.size,
    )  # fmt: skip


def _meet(boxes: Boxes, others: Boxes) -> npt.NDArray[np.bool_]:
    """Which boxes overlap which others, (boxes, others)."""
    a, b = boxes[:, None], others[None]
    return (
        (a[..., 0] < b[..., 2])
        & (b[..., 0] < a[..., 2])
        & (a[..., 1] < b[..., 3])
        & (b[..., 1] < a[..., 3])
    )


def _hold(boxes: Boxes, points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which boxes hold which points, (boxes, points)."""
    a, p = boxes[:, None], points[None]
    return (
        (a[..., 0] <= p[..., 0])
        & (p[..., 0] <= a[..., 2])
        & (a[..., 1] <= p[..., 1])
        & (p[..., 1] <= a[..., 3])
    )
