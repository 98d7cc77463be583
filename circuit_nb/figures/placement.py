"""Where the nodes of an attribution graph are drawn, and which labels fit.

Positions are in pixels of the narrowest drawing: tokens along x, layers up y. A wider drawing
stretches x, so what does not overlap here does not overlap there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from circuit_nb.figures.style import SMALL, shorten, text_width, token_text
from circuit_nb.graph import AttributionGraph, ErrorNode, Feature, Node, TokenNode

SLOT = 14.0
"""Width of one node, pixels."""
WIDEST_COLUMN = 24
"""Nodes side by side in a column before they begin to overlap."""
TOKEN_LENGTH = 14
"""Characters of a token under its column."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Placement:
    """Where every shown node is drawn."""

    x: Floats
    """(n_nodes,) pixels from the left, in node order; NaN where a node is not shown."""
    y: Floats
    """(n_nodes,) pixels from the bottom; NaN where a node is not shown."""
    columns: tuple[tuple[float, float], ...]
    """Left and right edge of each position's column, pixels."""
    row: float
    """Distance between two layers, pixels."""
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


def place(graph: AttributionGraph, shown: npt.NDArray[np.bool_], row: float = 0.0) -> Placement:
    """Place the shown nodes: a column for each token, as wide as its crowd, a row for each layer.

    Args:
        graph: The graph.
        shown: (n_nodes,) which nodes are drawn, in node order.
        row: Distance between two layers in pixels; 0 chooses one by the number of layers.
    """
    row = row or min(76.0, max(22.0, 560.0 / (graph.n_layers + 2)))
    cells = _cells(graph, shown)
    columns = _columns(graph, cells)
    x, y = np.full(graph.n_nodes, np.nan), np.full(graph.n_nodes, np.nan)
    for (height, position), members in cells.items():
        left, right = columns[position]
        gap = min(SLOT, (right - left) / (len(members) + 1))
        offsets = (np.arange(len(members)) - (len(members) - 1) / 2) * gap
        x[members] = (left + right) / 2 + offsets
        # A crowded cell zigzags, so that each node can still be hit.
        crowded = gap < 0.7 * SLOT
        y[members] = height * row + (np.arange(len(members)) % 2 - 0.5) * 0.4 * row * crowded
    width = columns[-1][1]
    _place_targets(graph, shown, x, width)
    y[graph.blocks.targets] = np.where(
        shown[graph.blocks.targets], (graph.n_layers + 1) * row, np.nan
    )
    return Placement(x, y, columns, row, width, (graph.n_layers + 1) * row)


def _cells(
    graph: AttributionGraph, shown: npt.NDArray[np.bool_]
) -> dict[tuple[int, int], list[int]]:
    """Node numbers by (row, position); targets are placed apart."""
    cells: dict[tuple[int, int], list[int]] = {}
    for number in np.flatnonzero(shown[: graph.blocks.targets.start]).tolist():
        node = graph.nodes[number]
        assert isinstance(node, Feature | ErrorNode | TokenNode)
        cells.setdefault((level(graph, node), node.position), []).append(number)
    return cells


def _columns(
    graph: AttributionGraph, cells: dict[tuple[int, int], list[int]]
) -> tuple[tuple[float, float], ...]:
    crowd = [1] * len(graph.tokens)
    for (_, position), members in cells.items():
        crowd[position] = max(crowd[position], len(members))
    edges: list[tuple[float, float]] = []
    left = 0.0
    for token, count in zip(graph.tokens, crowd, strict=True):
        label = text_width(shorten(token_text(token), TOKEN_LENGTH), SMALL) + 8
        right = left + max(label, 28.0, SLOT * (min(count, WIDEST_COLUMN) + 0.8))
        edges.append((left, right))
        left = right
    return tuple(edges)


def _place_targets(
    graph: AttributionGraph, shown: npt.NDArray[np.bool_], x: Floats, width: float
) -> None:
    """Spread the outputs along the top, the first at the right, as far as each label needs."""
    right = width
    for number in range(graph.blocks.targets.start, graph.n_nodes):
        if not shown[number]:
            continue
        text = token_text(graph.targets[number - graph.blocks.targets.start])
        half = max(36.0, text_width(shorten(text, TOKEN_LENGTH) + " 99.9 %", SMALL)) / 2 + 4
        x[number] = max(right - half, 8.0)
        right -= 2 * half


class Label(NamedTuple):
    """A text beside a node."""

    number: int
    """Of the node, in node order."""
    text: str
    side: str
    """Plotly's `textposition`."""


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )


def fit_labels(
    placement: Placement,
    wanted: Iterable[tuple[int, str]],
    *,
    taken: Sequence[int] = (),
    sizes: Floats | None = None,
    most: int = 24,
) -> list[Label]:
    """Place as many of the wanted labels as fit without overlap, the first ones first.

    Args:
        placement: Where the nodes are.
        wanted: Node numbers and texts, the most important first.
        taken: Numbers of nodes that labels must not cover.
        sizes: Diameter of every node's marker in pixels, (n_nodes,); by default 13 each.
        most: How many labels at most.
    """
    sizes = np.full(len(placement.x), 13.0) if sizes is None else sizes
    boxes = {n: _around(placement, n, float(sizes[n]) / 2) for n in taken}
    labels: list[Label] = []
    placed: list[_Box] = []
    for number, text in wanted:
        if len(labels) == most:
            break
        for side in _SIDES:
            gap = beside(float(sizes[number]))
            box = _label_box(placement, number, text_width(text, SMALL), side, gap)
            inside = box.left >= 0 and box.right <= placement.width
            free = not any(box.meets(b) for b in placed) and not any(
                box.meets(b) for n, b in boxes.items() if n != number
            )
            if inside and free:
                labels.append(Label(number, text, side))
                placed.append(box)
                break
    return labels


_SIDES = (
    *("top center", "bottom center", "middle right", "middle left"),
    *("top left", "top right", "bottom left", "bottom right"),
)


def beside(size: float) -> float:
    """How far from a marker's middle Plotly writes its text, pixels."""
    return size / 2 / 0.8 + 1 if size else 0.0


def _around(placement: Placement, number: int, half: float) -> _Box:
    x, y = placement.x[number], placement.y[number]
    return _Box(x - half, y - half, x + half, y + half)


def _label_box(placement: Placement, number: int, width: float, side: str, gap: float) -> _Box:
    x, y, height = placement.x[number], placement.y[number], 14.0
    vertical, horizontal = side.split()
    left = {"center": x - width / 2, "right": x + gap, "left": x - gap - width}[horizontal]
    bottom = {"top": y + gap, "middle": y - height / 2, "bottom": y - gap - height}[vertical]
    return _Box(left, bottom, left + width, bottom + height)
