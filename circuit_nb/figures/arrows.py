"""Boxes of a circuit and the arrows between them: their lines, and where shares are written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.figures.style import SMALL, percent, text_width

Point: TypeAlias = tuple[float, float]
"""Pixels from the left and from the top."""

ALONG = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74)
"""Where along an arrow its share is tried."""
HALF, NEAR = 6.0, 2.0
"""Half the height of a share, and how near it comes to its arrow, pixels."""


@dataclass(frozen=True)
class Box:
    """One drawn group."""

    key: str
    """What a click on it reports: `g` and the group's number."""
    name: tuple[str, ...]
    """Its name in one or two lines."""
    title: str
    """Its whole name, and what it is."""
    x: float
    """Of its middle, pixels from the left."""
    y: float
    """Of its middle, pixels from the top."""
    width: float
    height: float
    colour: str
    kind: str
    """`group`, `guest`, `feature`, `error`, `token` or `output`."""
    told: str
    """A few characters under the name: its setting, what is left of it, or its probability."""
    faint: bool

    @property
    def switchable(self) -> bool:
        """Whether it can have a switch."""
        return self.kind in ("group", "guest", "feature")


@dataclass(frozen=True)
class Arrow:
    """What flows from one box to another."""

    source: int
    target: int
    share: float
    """Share of the target's input that comes directly from the source; negative where it lowers."""
    points: tuple[Point, ...]
    """From the source's side to the target's, through the places it passes."""
    told: Point | None
    """Where its share is written, by the text's middle; None where there is no room."""

    @property
    def width(self) -> float:
        """Of the line, pixels."""
        return 1 + 6 * min(abs(self.share), 1)

    @property
    def text(self) -> str:
        """Its share in words, to whole percents where it is one or more."""
        return percent(round(self.share, 2 if abs(self.share) >= 0.01 else 3))


def arrows(
    boxes: Sequence[Box],
    shares: Mapping[tuple[int, int], float],
    passed: Mapping[tuple[int, int], tuple[Point, ...]],
    height: float,
    upward: bool = False,
) -> tuple[Arrow, ...]:
    """The arrows between boxes, the strongest first.

    Shares are written beside their arrows, on no box and no other share, and where there is room
    for it on no other arrow either.

    Args:
        boxes: The boxes.
        shares: Share of the target's input, by (source, target), the strongest first.
        passed: Places that an arrow goes through between its ends, by the same.
        height: Of the drawing, pixels.
        upward: Whether arrows leave boxes upwards, and not to the right.
    """
    routes: dict[tuple[int, int], tuple[Point, ...]] = {}
    for source, target in shares:
        start, end = _sides(boxes[source], boxes[target], upward)
        routes[source, target] = (start, *passed.get((source, target), ()), end)
    lines = {edge: samples(points, upward) for edge, points in routes.items()}
    places = np.concatenate([np.zeros((0, 2)), *lines.values()])
    owners = np.repeat(np.arange(len(lines)), [len(line) for line in lines.values()])
    told: list[tuple[float, float, float]] = []
    found: list[Arrow] = []
    for number, (edge, share) in enumerate(shares.items()):
        arrow = Arrow(*edge, share, routes[edge], None)
        half = text_width(arrow.text, SMALL) / 2
        reach = (half + 2, HALF + 1)
        others = owners != number
        free = [
            p for p in _beside(lines[edge], arrow.width, half) if _is_free(p, half, boxes, told)
        ]
        crossed = [len(set(owners[others & _near(places, p, reach)].tolist())) for p in free]
        place = free[crossed.index(min(crossed))] if free else None
        if place is not None:
            told.append((*place, half))
        found.append(Arrow(*edge, share, routes[edge], place))
    return tuple(found)


def _beside(line: Sequence[Point], width: float, half: float) -> Iterator[Point]:
    """Places for a text of so much half width, so near an arrow as not to lie on it."""
    for part in ALONG:
        at = round(part * (len(line) - 1))
        (x0, y0), (x, y), (x1, y1) = (
            line[max(at - 1, 0)],
            line[at],
            line[min(at + 1, len(line) - 1)],
        )
        long = math.hypot(x1 - x0, y1 - y0) or 1.0
        across = ((y1 - y0) / long, -(x1 - x0) / long)
        # As far as the text reaches towards the line, which runs straight here.
        away = abs(across[0]) * half + abs(across[1]) * HALF + width / 2 + NEAR
        for side in (1, -1) if across[1] <= 0 else (-1, 1):  # above it first
            yield round(x + side * across[0] * away, 1), round(y + side * across[1] * away, 1)


def _near(places: npt.NDArray[np.float64], at: Point, reach: Point) -> npt.NDArray[np.bool_]:
    """Which places along the arrows, (n, 2), a share written there would lie on."""
    return np.all(np.abs(places - at) < reach, axis=1)


def _is_free(
    at: Point, half: float, boxes: Sequence[Box], told: Sequence[tuple[float, float, float]]
) -> bool:
    """Whether a share written there would cover neither a box nor another share."""
    x, y = at
    covered = any(
        abs(x - b.x) < b.width / 2 + half + 2 and abs(y - b.y) < b.height / 2 + HALF + 1
        for b in boxes
    )
    return (
        y > HALF
        and not covered
        and all(abs(x - a) > half + other + 3 or abs(y - b) > 2 * HALF + 1 for a, b, other in told)
    )


def _sides(source: Box, target: Box, upward: bool) -> tuple[Point, Point]:
    """Where an arrow leaves one box and reaches the other."""
    if upward:
        way = 1 if target.y <= source.y else -1
        return (source.x, source.y - way * source.height / 2), (
            target.x,
            target.y + way * target.height / 2,
        )
    way = 1 if target.x >= source.x else -1
    return (source.x + way * source.width / 2, source.y), (
        target.x - way * target.width / 2,
        target.y,
    )


def curve(points: Sequence[Point], upward: bool = False) -> list[tuple[Point, Point, Point]]:
    """An arrow as cubic Bézier pieces (two handles and an end) that leave boxes straight."""
    pieces: list[tuple[Point, Point, Point]] = []
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if upward:
            half = (y0 + y1) / 2
            pieces.append(((x0, half), (x1, half), (x1, y1)))
        else:
            half = (x0 + x1) / 2
            pieces.append(((half, y0), (half, y1), (x1, y1)))
    return pieces


def samples(points: Sequence[Point], upward: bool = False, count: int = 20) -> list[Point]:
    """Places along an arrow, from its source on."""
    found = [points[0]]
    for (a, b, c), start in zip(curve(points, upward), points, strict=False):
        for t in (step / count for step in range(1, count + 1)):
            w = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            x, y = (sum(k * p[i] for k, p in zip(w, (start, a, b, c), strict=True)) for i in (0, 1))
            found.append((round(x, 1), round(y, 1)))
    return found
