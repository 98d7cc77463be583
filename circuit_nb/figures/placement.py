"""Where the nodes of an attribution graph are drawn: tokens along x, layers up y, all of them in.

Positions are in pixels of a picture of a given size. A wider picture stretches x, so what does not
overlap here does not overlap there.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.figures.names import output_text
from circuit_nb.figures.style import SMALL, TITLE, shorten, text_width, token_text
from circuit_nb.figures.tracks import LANE, SLOT, Cell, Track, grow, stretch
from circuit_nb.graph import AttributionGraph, ErrorNode, Feature, Node, TokenNode

WIDTH, HEIGHT = 800.0, 430.0
"""Size of the drawing where nobody says another, pixels, without the axes around it."""
ALWAYS = 10.0
"""Strength of what is drawn before all others; no influence is as large."""
TOKEN_LENGTH = 14
"""Characters of a token under its column."""
TALLEST = 88.0
"""Height of a layer at most, pixels, unless it is opened."""
NARROW = 16.0
"""Width of a column whose token is written aslant, pixels."""
BAND = 20.0
"""Width of a column, or height of a row, that stands for several, pixels."""
TOKENS, OUTPUTS = 22.0, 36.0
"""Heights of the lowest and of the highest row, pixels."""
WORDS = 300.0
"""Room beside the nodes of a column for their words at most, pixels."""
BESIDE = 90.0
"""How far outputs may stand to the left of the last token's column, pixels."""
REST = 13.0
"""Half the width of the mark for the outputs that are left, pixels."""
FOR_NODES = 0.6
"""Share of the free width, and of the free height, that crowded cells may take from the words."""

Floats: TypeAlias = npt.NDArray[np.float64]
Place: TypeAlias = tuple[int, int]
"""(level, position): a layer and one, or 0 for tokens; see `level`."""


class Band(NamedTuple):
    """A column or a row of the picture."""

    keys: tuple[int, ...]
    """The positions, or the levels, it stands for: several where they hold nothing."""
    low: float
    """Its left or lower edge, pixels."""
    high: float
    """Its right or upper edge, pixels."""

    @property
    def middle(self) -> float:
        """Its middle, pixels."""
        return (self.low + self.high) / 2


class Mark(NamedTuple):
    """One mark for several nodes for which there is no room."""

    place: Place
    """Where they are; what opens on a click."""
    x: float
    y: float
    numbers: tuple[int, ...]
    """The nodes, in node order's numbers."""


@dataclass(frozen=True)
class Placement:
    """Where every node is drawn."""

    x: Floats
    """(n_nodes,) pixels from the left, in node order; NaN where a node is not drawn."""
    y: Floats
    """(n_nodes,) pixels from the bottom; NaN where a node is not drawn."""
    columns: tuple[Band, ...]
    """Positions, from the left."""
    rows: tuple[Band, ...]
    """Levels, from below."""
    marks: tuple[Mark, ...]
    """What stands for the nodes that are not drawn one by one."""
    aslant: bool
    """Whether tokens are written aslant, for want of room."""
    width: float
    """Of the whole drawing, pixels."""
    height: float
    """Of the whole drawing, pixels."""


def level(graph: AttributionGraph, node: Node) -> int:
    """The row of a node: 0 for tokens, layer + 1 for features and errors, then targets."""
    if isinstance(node, TokenNode):
        return 0
    if isinstance(node, Feature | ErrorNode):
        return node.layer + 1
    return graph.n_layers + 1


def place(
    graph: AttributionGraph,
    shown: npt.NDArray[np.bool_],
    *,
    strength: npt.NDArray[np.float32] | None = None,
    width: float = WIDTH,
    height: float = HEIGHT,
    opened: Collection[Place] = (),
) -> Placement:
    """Place the shown nodes within the given size.

    Columns and rows are as wide as what they hold. Nodes of a crowded cell stand in several rows;
    those that still have no room are gathered in one mark with their number. Layers that hold
    nothing are folded, and, where the prompt is long, so are tokens.

    Args:
        graph: The graph.
        shown: (n_nodes,) which nodes are drawn, in node order.
        strength: (n_nodes,) where not all have room, the strongest are drawn; by default the first.
            Outputs are drawn by rank, but those of `ALWAYS` and more before the others.
        width: Of the drawing, pixels.
        height: Of the drawing, pixels; it becomes higher only for what is opened.
        opened: Cells all of whose nodes are to be drawn.
    """
    strength = np.zeros(graph.n_nodes, np.float32) if strength is None else strength
    members = _members(graph, shown, strength)
    columns, aslant = _columns(graph, members, width, opened)
    layers = {where[0] for where in members} - {0, graph.n_layers + 1}
    height = min(height, TOKENS + OUTPUTS + TALLEST * max(len(layers), 1))
    rows = _rows(graph, members, height)
    outputs = members.get((graph.n_layers + 1, len(graph.tokens) - 1), [])
    if (graph.n_layers + 1, len(graph.tokens) - 1) in opened:
        more = math.ceil(sum(_width(graph, n) for n in outputs) / (0.8 * width))
        rows[-1].least += OUTPUTS * more
    _share(members, columns, rows, width, height, opened)
    right = stretch(columns, width, most=WORDS)
    top = stretch(rows, height)
    made = _Drawing(graph.n_nodes, columns, rows)
    for where, numbers in members.items():
        if where[0] <= graph.n_layers:
            made.fill(where, numbers)
    _place_outputs(graph, members, made, right, opened)
    return Placement(
        made.x,
        made.y,
        tuple(Band(t.keys, t.start, t.start + t.size) for t in columns),
        tuple(Band(t.keys, t.start, t.start + t.size) for t in rows),
        tuple(made.marks),
        aslant,
        right,
        top,
    )


def written_aslant(graph: AttributionGraph, width: float) -> bool:
    """Whether tokens have to be written aslant in a drawing of this width."""
    return sum(_token_widths(graph)) > 0.8 * width


def _token_widths(graph: AttributionGraph) -> list[float]:
    texts = [shorten(token_text(t), TOKEN_LENGTH) for t in graph.tokens]
    return [max(text_width(text, SMALL) + 10, NARROW) for text in texts]


def _members(
    graph: AttributionGraph, shown: npt.NDArray[np.bool_], strength: npt.NDArray[np.float32]
) -> dict[Place, list[int]]:
    """Numbers of the shown nodes by place, the strongest first."""
    found: dict[Place, list[int]] = {}
    last = len(graph.tokens) - 1
    numbers = np.flatnonzero(shown)
    for number in numbers[np.argsort(-strength[numbers], kind="stable")].tolist():
        node = graph.nodes[number]
        position = node.position if isinstance(node, Feature | ErrorNode | TokenNode) else last
        found.setdefault((level(graph, node), position), []).append(number)
    for where in found:
        if where[0] == graph.n_layers + 1:
            # As the graph ranks its outputs, the first of all and then those that must be there.
            first = graph.blocks.targets.start
            found[where].sort(key=lambda n: (n != first, strength[n] < ALWAYS, n))
    return found


def _columns(
    graph: AttributionGraph,
    members: dict[Place, list[int]],
    width: float,
    opened: Collection[Place],
) -> tuple[list[Track], bool]:
    """A track for each position; where they are too many, those that hold nothing are folded."""
    labels = _token_widths(graph)
    aslant = written_aslant(graph, width)
    least = [NARROW if aslant else label for label in labels]
    levels = [0] * len(graph.tokens)
    for layer, position in members:
        levels[position] += 0 < layer <= graph.n_layers
    runs = [[p] for p in range(len(graph.tokens))]
    if sum(least) > 0.8 * width:
        kept = {0, len(graph.tokens) - 1} | {p for p in range(len(levels)) if levels[p]}
        for where in opened:
            kept.update(next((r for r in _runs(len(levels), kept) if where[1] in r), ()))
        runs = _runs(len(levels), kept)
    # What still does not fit becomes narrower than a node.
    squeezed = min(1.0, 0.9 * width / sum(max(least[p] for p in run) for run in runs))
    tracks = [
        Track(
            tuple(run),
            least[run[0]] * squeezed if len(run) == 1 else BAND * squeezed,
            max(1, int(least[run[0]] // SLOT)) if len(run) == 1 else 1,
            demand=0.5 + max(0, levels[run[0]] - 1) if len(run) == 1 else 0.0,
        )
        for run in runs
    ]
    return tracks, aslant


def _runs(count: int, kept: Collection[int]) -> list[list[int]]:
    """0 to count - 1, in order: each kept one alone, the others together with their neighbours."""
    runs: list[list[int]] = []
    for number in range(count):
        joins = runs and number not in kept and runs[-1][-1] not in kept
        if joins:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _rows(graph: AttributionGraph, members: dict[Place, list[int]], height: float) -> list[Track]:
    """Tokens, each layer that holds something, those between that do not, and outputs."""
    used = {where[0] for where in members} - {0, graph.n_layers + 1}
    least = (height - TOKENS - OUTPUTS) / max(len(used), 1)
    least = min(LANE + 2, max(LANE - 4, least))
    tracks = [Track((0,), TOKENS, demand=0.0)]
    for run in _runs(graph.n_layers, {n - 1 for n in used}):
        empty = run[0] + 1 not in used
        few = 8.0 if len(run) < 3 else 14.0
        tracks.append(
            Track(
                tuple(n + 1 for n in run),
                few if empty else least,
                demand=0.0 if empty else 1.0,
            )
        )
    tracks.append(Track((graph.n_layers + 1,), OUTPUTS, demand=0.0))
    return tracks


def _share(
    members: dict[Place, list[int]],
    columns: list[Track],
    rows: list[Track],
    width: float,
    height: float,
    opened: Collection[Place],
) -> None:
    """Let crowded cells grow, those that are opened first and without regard to the height."""
    row_of = {key: n for n, track in enumerate(rows) for key in track.keys}
    column_of = {key: n for n, track in enumerate(columns) for key in track.keys}
    top = len(rows) - 1
    counts: dict[Cell, int] = {}
    for where, numbers in members.items():
        cell = row_of[where[0]], column_of[where[1]]
        if cell[0] not in (0, top):
            counts[cell] = len(numbers)
    free = width - sum(t.least for t in columns)
    wanted = {(row_of[o[0]], column_of[o[1]]) for o in opened if o[0] in row_of}
    chosen = {cell: counts[cell] for cell in wanted if cell in counts}
    before = sum(t.least for t in columns)
    grow(chosen, rows, columns, (FOR_NODES * free, 4 * height))
    free -= sum(t.least for t in columns) - before
    up = max(0.0, height - sum(t.least for t in rows))
    grow(counts, rows, columns, (FOR_NODES * free, FOR_NODES * up))


class _Drawing:
    """Places being filled."""

    def __init__(self, n_nodes: int, columns: list[Track], rows: list[Track]) -> None:
        self.x, self.y = np.full(n_nodes, np.nan), np.full(n_nodes, np.nan)
        self.marks: list[Mark] = []
        self._columns = {key: track for track in columns for key in track.keys}
        self._rows = {key: track for track in rows for key in track.keys}
        self._folded: dict[int, list[int]] = {}

    def column(self, position: int) -> Track:
        """The column of a position."""
        return self._columns[position]

    def row(self, level: int) -> Track:
        """The row of a level."""
        return self._rows[level]

    def fill(self, where: Place, numbers: list[int]) -> None:
        """Put the nodes of one cell side by side, in as many rows as it has."""
        row, column = self._rows[where[0]], self._columns[where[1]]
        if column.folded:
            self._gather_tokens(row, column, numbers)
            return
        room = row.places * column.places
        drawn = numbers if len(numbers) <= room else numbers[: room - 1]
        rest = tuple(numbers[len(drawn) :])
        count = len(drawn) + bool(rest)
        lanes = -(-count // column.places)
        across = -(-count // lanes)
        wide = min(1.15 * SLOT, column.size / across)
        high = min(1.15 * LANE, row.size / lanes)
        places = [
            (
                column.middle
                + (i % across - (min(across, count - i // across * across) - 1) / 2) * wide,
                row.middle + ((lanes - 1) / 2 - i // across) * high,
            )
            for i in range(count)
        ]
        for number, (x, y) in zip(_ends_first(drawn, across), places, strict=False):
            self.x[number], self.y[number] = x, y
        if rest:
            self.marks.append(Mark(where, *places[-1], rest))

    def _gather_tokens(self, row: Track, column: Track, numbers: list[int]) -> None:
        """One mark for all tokens of a folded column."""
        gathered = self._folded.setdefault(column.keys[0], [])
        gathered += numbers
        if len(gathered) == len(column.keys):
            where = (0, column.keys[0])
            self.marks.append(Mark(where, column.middle, row.middle, tuple(sorted(gathered))))


def _ends_first(numbers: list[int], across: int) -> list[int]:
    """Each lane's strongest nodes at its ends, where words have room."""
    ordered: list[int] = []
    for start in range(0, len(numbers), across):
        lane = numbers[start : start + across]
        ordered += lane[::2] + lane[1::2][::-1]
    return ordered


def _place_outputs(
    graph: AttributionGraph,
    members: dict[Place, list[int]],
    made: _Drawing,
    right: float,
    opened: Collection[Place],
) -> None:
    """The likeliest over the last token, the next on either side of it while they have room.

    The rest is one mark; opened, they stand in rows above, from the right.
    """
    last = len(graph.tokens) - 1
    where = (graph.n_layers + 1, last)
    first, *others = members.get(where) or [-1]
    if first < 0:
        return
    column, base = made.column(last), made.row(where[0]).start + 8
    half = _width(graph, first) / 2
    middle = min(max(column.middle, half), right - half)
    made.x[first], made.y[first] = middle, base
    # The mark for the rest stands at the right, after what fits there.
    least = max(0.0, column.start - BESIDE)
    ends = [middle + half, middle - half]
    rest = list(others)
    for side, limit in ((0, right - 2 * REST), (1, least)):
        while rest:
            wide = _width(graph, rest[0])
            way = 1 - 2 * side
            if (limit - ends[side]) * way < wide:
                break
            number = rest.pop(0)
            made.x[number], made.y[number] = ends[side] + way * wide / 2, base
            ends[side] += way * wide
    if not rest:
        return
    if where not in opened:
        x = ends[0] + REST if ends[0] + 2 * REST <= right else ends[1] - REST
        made.marks.append(Mark(where, x, base, tuple(rest)))
        return
    edge, base = right, base + OUTPUTS
    for number in rest:
        wide = _width(graph, number)
        if edge - wide < 0:
            edge, base = right, base + OUTPUTS
        made.x[number], made.y[number] = edge - wide / 2, base
        edge -= wide


def _width(graph: AttributionGraph, number: int) -> float:
    """Room that an output's words need, pixels."""
    rank = number - graph.blocks.targets.start
    size = SMALL if rank else TITLE
    return text_width(output_text(graph, rank), size, bold=not rank) + 10
