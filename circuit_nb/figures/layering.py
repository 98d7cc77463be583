"""Boxes and arrows in layers: what feeds stands before what it feeds, with few crossings.

The steps of Sugiyama, Tagawa and Toda (1981): a layer for every box, places in the layer that
cross few arrows, then coordinates near what a box is joined to. Long arrows pass through every
layer between on a lane of their own, so that none runs behind a box.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

GAP, LANE = 16.0, 12.0
"""Space between two boxes of a layer, and what an arrow passing by takes, pixels."""
BETWEEN, NEAREST = 44.0, 22.0
"""Space between two layers, and what it may shrink to where there is too little room, pixels."""
STRETCH = 1.7
"""By how much boxes move apart across at most, to fill the room there is."""
SWEEPS = 6
"""How often the order of the layers is gone through, there and back."""

Edge = tuple[int, int]


@dataclass(frozen=True)
class Layers:
    """Where boxes stand; along is the way of the arrows, across the other one."""

    along: tuple[float, ...]
    """Middle of each box, pixels."""
    across: tuple[float, ...]
    """Middle of each box, pixels."""
    routes: dict[Edge, tuple[tuple[float, float], ...]] = field(
        default_factory=dict[Edge, tuple[tuple[float, float], ...]]
    )
    """Places (along, across) that each arrow passes between its two boxes, none for a short one."""
    depth: float = 0.0
    """Pixels along."""
    breadth: float = 0.0
    """Pixels across."""


@lru_cache(maxsize=64)
def layered(
    levels: tuple[float, ...],
    wished: tuple[float, ...],
    sizes: tuple[tuple[float, float], ...],
    edges: tuple[Edge, ...],
    last: frozenset[int] = frozenset(),
    depth: float = 0.0,
    breadth: float = 0.0,
) -> Layers:
    """Lay out boxes so that arrows run one way.

    Args:
        levels: How early each box is; an arrow to a box no later than its source is left out of
            account. Boxes of the lowest level stand in the first layer.
        wished: Where across each box belongs, in any unit: the order to begin with.
        sizes: (along, across) of each box, pixels.
        edges: (source, target) by number of the box.
        last: Boxes that stand in the last layer.
        depth: Pixels along to fill, where the boxes need less.
        breadth: Pixels across to fill, where the boxes need less.
    """
    if not levels:
        return Layers((), ())
    onward = tuple(e for e in edges if levels[e[0]] < levels[e[1]])
    rank = _ranks(levels, onward, last)
    chains = _chains(rank, onward)
    order = _order(rank, chains, wished)
    sizes_of = {i: sizes[i][1] for i in range(len(levels))}
    across = _places(order, chains, sizes_of)
    across = _stretched(across, sizes_of, breadth)
    along, total = _along(rank, sizes, depth)
    low = min(across[i] - sizes[i][1] / 2 for i in range(len(levels)))
    low = min([low, *(a - LANE / 2 for i, a in across.items() if i >= len(levels))])
    high = max(a + sizes_of.get(i, LANE) / 2 for i, a in across.items())
    middle = {r: (min(a) + max(a)) / 2 for r, a in _by_rank(rank, along).items()}
    routes: dict[Edge, tuple[tuple[float, float], ...]] = {}
    for edge, chain in chains.items():
        between = range(rank[edge[0]] + 1, rank[edge[1]])
        passed = zip(between, chain[1:-1], strict=True)
        routes[edge] = tuple((middle[r], across[d] - low) for r, d in passed)
    return Layers(
        tuple(along), tuple(across[i] - low for i in range(len(levels))), routes, total, high - low
    )


def _ranks(levels: Sequence[float], edges: Sequence[Edge], last: frozenset[int]) -> list[int]:
    """A layer for each box: one after the last of what feeds it."""
    count = len(levels)
    into: dict[int, list[int]] = {i: [] for i in range(count)}
    for source, target in edges:
        into[target].append(source)
    first = min(levels)
    rank = [0] * count
    for i in sorted(range(count), key=lambda i: levels[i]):
        fed = max((rank[s] + 1 for s in into[i]), default=0)
        rank[i] = max(fed, 0 if levels[i] == first else 1)
    out: dict[int, list[int]] = {i: [] for i in range(count)}
    for source, target in edges:
        out[source].append(target)
    end = max(rank[i] for i in range(count))
    for i in sorted(range(count), key=lambda i: -levels[i]):
        if i in last:
            rank[i] = end
        elif out[i] and not into[i] and levels[i] != first:
            rank[i] = min(rank[t] for t in out[i]) - 1  # nothing shown feeds it: stand near
    if last and any(rank[i] == end for i in range(count) if i not in last):
        for i in last:
            rank[i] = end + 1
    used = {r: k for k, r in enumerate(sorted(set(rank)))}
    return [used[r] for r in rank]


def _by_rank(rank: Sequence[int], values: Sequence[float]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for r, value in zip(rank, values, strict=True):
        found.setdefault(r, []).append(value)
    return found


def _chains(rank: Sequence[int], edges: Sequence[Edge]) -> dict[Edge, list[int]]:
    """Each arrow as a chain of neighbours: its ends, and a place in every layer it passes."""
    fresh = itertools.count(len(rank))
    return {
        (s, t): [s, *(next(fresh) for _ in range(rank[s] + 1, rank[t])), t]
        for s, t in edges
        if rank[s] < rank[t]
    }


def _order(
    rank: Sequence[int], chains: dict[Edge, list[int]], wished: Sequence[float]
) -> list[list[int]]:
    """Boxes and passing places of every layer, in the order that crosses fewest arrows."""
    at = {i: float(w) for i, w in enumerate(wished)}
    layer = dict(enumerate(rank))
    for (source, target), chain in chains.items():
        for step, place in enumerate(chain[1:-1], start=1):
            share = step / (len(chain) - 1)
            at[place] = at[source] + share * (at[target] - at[source])
            layer[place] = rank[source] + step
    order: list[list[int]] = [[] for _ in range(max(rank) + 1)]
    for place in sorted(layer, key=lambda p: (at[p], p)):
        order[layer[place]].append(place)
    links = [pair for chain in chains.values() for pair in itertools.pairwise(chain)]
    best, fewest = [list(o) for o in order], _crossings(order, layer, links)
    for sweep in range(2 * SWEEPS):
        if not fewest:
            break
        _sweep(order, layer, links, forward=sweep % 2 == 0)
        _swap(order, layer, links)
        count = _crossings(order, layer, links)
        if count < fewest:
            best, fewest = [list(o) for o in order], count
    return best


def _sweep(
    order: list[list[int]], layer: dict[int, int], links: Sequence[Edge], *, forward: bool
) -> None:
    """Sort every layer by the mean place of what its members are joined to in the one before."""
    joined: dict[int, list[int]] = {}
    for source, target in links:
        near, far = (target, source) if forward else (source, target)
        joined.setdefault(near, []).append(far)
    ranks = range(1, len(order)) if forward else range(len(order) - 2, -1, -1)
    for r in ranks:
        place = {p: k for members in order for k, p in enumerate(members)}
        key = {
            p: sum(place[q] for q in joined[p]) / len(joined[p]) if p in joined else place[p]
            for p in order[r]
        }
        order[r].sort(key=lambda p: (key[p], place[p]))


def _swap(order: list[list[int]], layer: dict[int, int], links: Sequence[Edge]) -> None:
    """Change neighbours wherever that crosses fewer arrows."""
    for members in order:
        for k in range(len(members) - 1):
            before = _crossings(order, layer, links)
            members[k], members[k + 1] = members[k + 1], members[k]
            if _crossings(order, layer, links) >= before:
                members[k], members[k + 1] = members[k + 1], members[k]


def _crossings(order: list[list[int]], layer: dict[int, int], links: Sequence[Edge]) -> int:
    place = {p: k for members in order for k, p in enumerate(members)}
    between: dict[int, list[tuple[int, int]]] = {}
    for source, target in links:
        between.setdefault(layer[source], []).append((place[source], place[target]))
    return sum(
        (a[0] - b[0]) * (a[1] - b[1]) < 0
        for pairs in between.values()
        for a, b in itertools.combinations(pairs, 2)
    )


def _places(
    order: list[list[int]], chains: dict[Edge, list[int]], sizes: dict[int, float]
) -> dict[int, float]:
    """Middle of everything across: near what it is joined to, in order, none over another."""
    joined: dict[int, list[int]] = {}
    for chain in chains.values():
        for a, b in itertools.pairwise(chain):
            joined.setdefault(a, []).append(b)
            joined.setdefault(b, []).append(a)
    at: dict[int, float] = {}
    for members in order:
        edge = 0.0
        for p in members:
            size = sizes.get(p, LANE)
            at[p] = edge + size / 2
            edge += size + GAP
        for p in members:
            at[p] -= (edge - GAP) / 2
    for sweep in range(2 * SWEEPS):
        for members in order if sweep % 2 == 0 else order[::-1]:
            wished = {p: _mean([at[q] for q in joined.get(p, [])], at[p]) for p in members}
            _apart(members, wished, sizes, at)
    return at


def _stretched(at: dict[int, float], sizes: dict[int, float], breadth: float) -> dict[int, float]:
    """Everything moved apart across, to fill the room there is."""
    low, high = min(at.values()), max(at.values())
    room = breadth - max(sizes.values())
    if high <= low or room <= high - low:
        return at
    factor = min(room / (high - low), STRETCH)
    return {p: low + factor * (a - low) for p, a in at.items()}


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _apart(
    members: Sequence[int], wished: dict[int, float], sizes: dict[int, float], at: dict[int, float]
) -> None:
    """Put the members of a layer where they belong, in order and clear of one another.

    Members that would meet move together to the mean of what they wish.
    """
    blocks: list[tuple[list[int], float]] = []  # members, and the first one's middle
    for p in members:
        block, start = [p], wished[p]
        while blocks and _end(*blocks[-1], sizes) + GAP + sizes.get(block[0], LANE) / 2 > start:
            block = blocks.pop()[0] + block
            start = _mean([wished[q] - offset for q, offset in _offsets(block, sizes)], 0.0)
        blocks.append((block, start))
    for block, start in blocks:
        for p, offset in _offsets(block, sizes):
            at[p] = start + offset


def _offsets(block: Sequence[int], sizes: dict[int, float]) -> list[tuple[int, float]]:
    """How far each member's middle is from the first one's."""
    found, offset = [(block[0], 0.0)], 0.0
    for a, b in itertools.pairwise(block):
        offset += sizes.get(a, LANE) / 2 + GAP + sizes.get(b, LANE) / 2
        found.append((b, offset))
    return found


def _end(block: Sequence[int], start: float, sizes: dict[int, float]) -> float:
    member, offset = _offsets(block, sizes)[-1]
    return start + offset + sizes.get(member, LANE) / 2


def _along(
    rank: Sequence[int], sizes: Sequence[tuple[float, float]], depth: float
) -> tuple[list[float], float]:
    """Middle of every box along, and the pixels that all layers take."""
    thick = [0.0] * (max(rank) + 1)
    for r, (size, _) in zip(rank, sizes, strict=True):
        thick[r] = max(thick[r], size)
    between = BETWEEN
    if depth and len(thick) > 1:
        between = max((depth - sum(thick)) / (len(thick) - 1), NEAREST)
    begin, middles = 0.0, list[float]()
    for size in thick:
        middles.append(begin + size / 2)
        begin += size + between
    return [middles[r] for r in rank], begin - between
