"""Groups of nodes as boxes, and what flows between them as arrows: what is drawn, and where."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from circuit_nb.analysis import supernode_weights
from circuit_nb.figures.arrows import Arrow, Box, Point, arrows
from circuit_nb.figures.layering import Layers, layered
from circuit_nb.figures.measures import Measures
from circuit_nb.figures.names import NO_LABELS, Labels, node_place
from circuit_nb.figures.naming import told_name
from circuit_nb.figures.placement import level
from circuit_nb.figures.style import BODY, GREY, SMALL, hue, percent, shorten, text_width
from circuit_nb.graph import AttributionGraph, Feature, Node, Supernode, TargetNode, TokenNode

Group: TypeAlias = Supernode | Node
"""What is drawn as one box."""
Shares: TypeAlias = npt.NDArray[np.float64]

WEAKEST, MOST = 0.04, 12
"""Arrows that carry a smaller share of their target's input are left out, and all but so many."""
ONLY = 0.002
"""A box keeps the strongest arrow that leaves it in any case if it carries this share."""
LENGTHS, MARGIN = (21, 17, 14, 11), 8.0
"""Characters of a line of a box's name, shorter ones where there is too little room, and space
around the drawing in pixels."""
SWITCH = 48.0
"""Width of a switch and of the sign of its menu, pixels."""
GREYED = 0.25
"""A box at or under this activation fraction is drawn faint."""


@dataclass(frozen=True)
class Circuit:
    """Boxes, arrows, and the room they take, pixels."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    width: float
    height: float


def circuit(
    graph: AttributionGraph,
    groups: Sequence[Group],
    *,
    labels: Labels = NO_LABELS,
    guests: Collection[Group] = (),
    fractions: Mapping[Group, float] | None = None,
    badges: Mapping[Group, str] | None = None,
    answers: Mapping[int, str] | None = None,
    width: float = 0.0,
    height: float = 0.0,
    upward: bool = False,
    controls: bool = False,
) -> Circuit:
    """Lay out groups of nodes: tokens first, outputs last.

    Args:
        graph: The graph.
        groups: Supernodes and single nodes.
        labels: Labels of features by (layer, index).
        guests: Those of the groups that are not of this graph: nothing is known to feed them.
        fractions: Activation after an intervention over activation before, by group.
        badges: The setting of a switch in a few characters, by group; it is written in place of the
            fraction, which it says already.
        answers: What is written under an output, by its number; by default its probability.
        width: Pixels to fill; names are shortened where the boxes need more.
        height: Pixels to fill, if the boxes need less.
        upward: Whether tokens are at the bottom, and not at the left.
        controls: Whether boxes leave room for a switch.
    """
    shares = _shares(graph, tuple(groups)) * ~_outer(groups, guests)
    drawn = strongest(shares)
    measures = Measures(graph)
    names = [g.name if isinstance(g, Supernode) else told_name(measures, g, labels) for g in groups]
    told = [
        (badges or {}).get(g) or _told(graph, g, fractions or {}, answers or {}) for g in groups
    ]
    switches = [controls and isinstance(g, Supernode | Feature) for g in groups]
    plan = _Plan(graph, groups, guests, drawn)
    room = (max(width - 2 * MARGIN, 0.0), max(height - 2 * MARGIN, 0.0))
    lines, sizes, placed = plan.fitted(names, told, switches, room, upward)

    def at(along: float, over: float) -> Point:
        point = (over, placed.depth - along) if upward else (along, over)
        return round(point[0] + MARGIN, 1), round(point[1] + MARGIN, 1)

    middles = [at(a, b) for a, b in zip(placed.along, placed.across, strict=True)]
    marks = _Marks(
        lines, sizes, middles, told, [_title(graph, *p) for p in zip(groups, names, strict=True)]
    )
    faint = [(fractions or {}).get(g, 1.0) <= GREYED for g in groups]
    boxes = _boxes(groups, guests, marks, faint)
    passed = {edge: tuple(at(*p) for p in route) for edge, route in placed.routes.items()}
    extent = (placed.breadth, placed.depth) if upward else (placed.depth, placed.breadth)
    wide, high = extent[0] + 2 * MARGIN, extent[1] + 2 * MARGIN
    found = {(s, t): float(shares[t, s]) for s, t in drawn}
    return Circuit(boxes, arrows(boxes, found, passed, high, upward), wide, high)


class _Marks(NamedTuple):
    """What is written on each box, and where it stands."""

    lines: Sequence[tuple[str, ...]]
    sizes: Sequence[tuple[float, float]]
    middles: Sequence[Point]
    told: Sequence[str]
    titles: Sequence[str]


def _boxes(
    groups: Sequence[Group], guests: Collection[Group], marks: _Marks, faint: Sequence[bool]
) -> tuple[Box, ...]:
    """The boxes; supernodes take their colours in turn."""
    colours = iter(hue(i) for i in itertools.count())
    return tuple(
        Box(
            key=f"g{i}",
            name=marks.lines[i],
            title=marks.titles[i],
            x=marks.middles[i][0],
            y=marks.middles[i][1],
            width=marks.sizes[i][0],
            height=marks.sizes[i][1],
            colour=next(colours) if isinstance(group, Supernode) else GREY,
            kind=_kind(group, guests),
            told=marks.told[i],
            faint=faint[i],
        )
        for i, group in enumerate(groups)
    )


class _Plan:
    """Which box feeds which, and where each belongs; what is to be laid out.

    Args:
        graph: The graph.
        groups: The boxes.
        guests: Those that are not of this graph.
        drawn: (source, target) of the arrows.
    """

    def __init__(
        self,
        graph: AttributionGraph,
        groups: Sequence[Group],
        guests: Collection[Group],
        drawn: Sequence[tuple[int, int]],
    ) -> None:
        members = [_members(graph, g) for g in groups]
        self.levels = tuple(_level(graph, m) for m in members)
        self.across = tuple(_across(graph, m) for m in members)
        self.outputs = frozenset(i for i, g in enumerate(groups) if isinstance(g, TargetNode))
        hosts = _like_hosts(groups, guests, self.levels, self.across, drawn)
        self.edges = (*drawn, *hosts)

    def fitted(
        self,
        names: Sequence[str],
        told: Sequence[str],
        switches: Sequence[bool],
        room: tuple[float, float],
        upward: bool,
    ) -> tuple[list[tuple[str, ...]], list[tuple[float, float]], Layers]:
        """Lines of the names, sizes, and places; with shorter names where there is little room."""
        for length in LENGTHS:
            lines = [wrap(n, length) for n in names]
            sizes = [_size(*parts) for parts in zip(lines, told, switches, strict=True)]
            turned = tuple((h, w) if upward else (w, h) for w, h in sizes)
            depth, breadth = room[::-1] if upward else room
            placed = layered(
                self.levels, self.across, turned, self.edges, self.outputs, depth, breadth
            )
            taken = placed.breadth if upward else placed.depth
            if not room[0] or taken < room[0] + 0.5 or length == LENGTHS[-1]:
                return lines, sizes, placed
        raise AssertionError("there is a shortest length")


def strongest(shares: Shares) -> tuple[tuple[int, int], ...]:
    """The arrows that are drawn, (source, target), the strongest first."""
    strength = np.abs(shares)
    order = [divmod(int(k), len(shares)) for k in np.argsort(-strength, axis=None, kind="stable")]
    drawn = {
        (source, int(strength[:, source].argmax()))
        for source in range(len(shares))
        if strength[:, source].max() >= ONLY
    }
    for target, source in order:
        if len(drawn) >= MOST or strength[target, source] < WEAKEST:
            break
        drawn.add((source, target))
    return tuple((s, t) for t, s in order if (s, t) in drawn)


_known_shares: WeakKeyDictionary[AttributionGraph, tuple[tuple[Group, ...], Shares]] = (
    WeakKeyDictionary()
)


def _shares(graph: AttributionGraph, groups: tuple[Group, ...]) -> Shares:
    """`supernode_weights`, remembered for the groups a graph was last asked for."""
    known = _known_shares.get(graph)
    if known is None or known[0] != groups:
        known = (groups, supernode_weights(graph, groups))
        _known_shares[graph] = known
    return known[1]


def _outer(groups: Sequence[Group], guests: Collection[Group]) -> npt.NDArray[np.bool_]:
    """Which entries of the shares are of guests, (groups, groups)."""
    guest = np.array([g in guests for g in groups], dtype=np.bool_)
    return guest[:, None] | guest[None, :]


def _like_hosts(
    groups: Sequence[Group],
    guests: Collection[Group],
    levels: Sequence[float],
    across: Sequence[float],
    drawn: Sequence[tuple[int, int]],
) -> Iterator[tuple[int, int]]:
    """Arrows that put a guest beside the group that is nearest to it, as if it were that one."""
    hosts = [i for i, g in enumerate(groups) if isinstance(g, Supernode) and g not in guests]
    for i, group in enumerate(groups):
        if group in guests and hosts:
            near = min(hosts, key=lambda h: abs(levels[h] - levels[i]) + abs(across[h] - across[i]))
            for source, target in drawn:
                if near in (source, target):
                    yield (i, target) if source == near else (source, i)


def _members(graph: AttributionGraph, group: Group) -> list[Node]:
    if isinstance(group, Supernode):
        return [f for f in group.features if f in graph] or list(group.features)
    return [group]


def _level(graph: AttributionGraph, members: Sequence[Node]) -> float:
    return float(np.mean([level(graph, n) for n in members]))


def _across(graph: AttributionGraph, members: Sequence[Node]) -> float:
    last = len(graph.tokens) - 1
    return float(np.mean([last if isinstance(n, TargetNode) else n.position for n in members]))


def _kind(group: Group, guests: Collection[Group]) -> str:
    if group in guests:
        return "guest"
    if isinstance(group, Supernode):
        return "group"
    kinds = ((Feature, "feature"), (TokenNode, "token"), (TargetNode, "output"))
    return next((kind for type_, kind in kinds if isinstance(group, type_)), "error")


def _title(graph: AttributionGraph, group: Group, name: str) -> str:
    if isinstance(group, Supernode):
        count = len(group.features)
        return f"{name}: {count} feature{'s' if count != 1 else ''}"
    return f"{name}, {node_place(graph, group)}"


def _told(
    graph: AttributionGraph,
    group: Group,
    fractions: Mapping[Group, float],
    answers: Mapping[int, str],
) -> str:
    if isinstance(group, TargetNode):
        share = percent(float(graph.target_probabilities[group.index]))
        return answers.get(group.index, share)
    share = fractions.get(group)
    return "" if share is None or not np.isfinite(share) else percent(round(share, 2))


def wrap(name: str, length: int = LENGTHS[0]) -> tuple[str, ...]:
    """A name in at most two lines of about the same length, and of so many characters."""
    if len(name) <= min(13, length):
        return (name,)
    words = name.split(" ")
    halves = ((" ".join(words[:k]), " ".join(words[k:])) for k in range(1, len(words)))
    best = min(halves, key=lambda pair: max(map(len, pair)), default=None)
    if best is None or max(map(len, best)) >= len(name):
        return (shorten(name, length),)
    return tuple(shorten(line, length) for line in best)


def _size(lines: Sequence[str], told: str, switch: bool) -> tuple[float, float]:
    widest = max(text_width(line, BODY) for line in lines)
    beside = SWITCH if switch else 0.0
    below = text_width(told, SMALL) + beside
    height = 11.0 + 15 * len(lines) + (17.0 if below else 0.0)
    return round(max(widest, below, SWITCH + 26 if switch else 30.0) + 12), height
