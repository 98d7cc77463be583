"""What of an attribution graph is drawn, where, why the rest is not, and the axes around it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.figures.measures import Measures
from circuit_nb.figures.placement import (
    ALWAYS,
    TOKEN_LENGTH,
    Band,
    Place,
    Placement,
    place,
    written_aslant,
)
from circuit_nb.figures.style import (
    BODY,
    FONT,
    GREY,
    SMALL,
    TICKS,
    percent,
    plotly_text,
    shorten,
    token_text,
)
from circuit_nb.graph import AttributionGraph, Node

__all__ = ["GraphView", "Measures", "Room", "Spec", "Trace", "graph_layout"]

Trace: TypeAlias = dict[str, Any]
"""Properties of one Plotly trace."""
Spec: TypeAlias = dict[str, Any]
"""A whole figure as Plotly's JSON, `data` and `layout`. Plain data is many times faster to make
than `go.Figure`, which checks every property; figures are made of it where they leave the library.
"""

LEFT, RIGHT, TOP, BOTTOM = 56, 12, 8, 30
"""Margins around the drawing, pixels."""
UNITS = 1000.0
"""Width and height of every picture in the coordinates of its axes: whatever its size in pixels,
so that going back to the whole picture is always the same."""
APART = 13.0
"""Between the names of two rows, pixels."""
ASLANT = 52
"""Further room below where tokens are written aslant, pixels."""


class Room(NamedTuple):
    """Size of the whole figure, pixels."""

    width: float = 868.0
    height: float = 480.0


@dataclass(frozen=True)
class GraphView:
    """A graph, what of it is drawn, and where; the part that a selection does not change."""

    measures: Measures
    kept: float = 0.8
    """Share of the influence whose nodes are drawn."""
    errors: bool = True
    """Whether error nodes are drawn."""
    always: frozenset[Node] = field(default_factory=frozenset[Node])
    """Nodes drawn whatever their influence, e.g. those pinned."""
    everywhere: bool = False
    """Whether features that fire on nearly everything are drawn."""
    layers: tuple[int, int] | None = None
    """First and last layer whose features and errors are drawn; None for all."""
    opened: frozenset[Place] = frozenset()
    """Crowded cells all of whose nodes are drawn."""
    room: Room = field(default_factory=Room)
    """Size of the figure."""

    @property
    def graph(self) -> AttributionGraph:
        """The graph that is drawn."""
        return self.measures.graph

    @property
    def influence(self) -> npt.NDArray[np.float32]:
        """Influence of every node on the targets, (n_nodes,)."""
        return self.measures.influence

    @cached_property
    def _wanted(self) -> npt.NDArray[np.bool_]:
        """Which nodes are drawn in any case, (n_nodes,)."""
        wanted = np.zeros(self.graph.n_nodes, dtype=np.bool_)
        wanted[[self.graph.number(n) for n in self.always if n in self.graph]] = True
        return wanted

    @cached_property
    def _reasons(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Why nodes are left out: each of them has the first reason that applies, (n_nodes,)."""
        graph, blocks = self.graph, self.graph.blocks
        out = {"errors": np.zeros(graph.n_nodes, dtype=np.bool_)}
        out["errors"][blocks.errors] = not self.errors
        if self.layers is not None:
            low, high = self.layers
            layer = np.concatenate([graph.features[:, 0], graph.errors[:, 0]])
            out["layers"] = np.zeros(graph.n_nodes, dtype=np.bool_)
            out["layers"][: len(layer)] = (layer < low) | (layer > high)
        out["influence"] = ~self.measures.kept(self.kept)
        if not self.everywhere:
            out["density"] = self.measures.everywhere
        told = self._wanted
        reasons: dict[str, npt.NDArray[np.bool_]] = {}
        for reason, left in out.items():
            reasons[reason] = left & ~told
            told = told | left
        return reasons

    @cached_property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Which nodes are in the picture, alone or in a mark, (n_nodes,), in node order."""
        return ~np.any(list(self._reasons.values()), axis=0)

    @cached_property
    def placement(self) -> Placement:
        """Where the drawn nodes are."""
        width = self.room.width - LEFT - RIGHT
        below = BOTTOM + (ASLANT if written_aslant(self.graph, width) else 0)
        return place(
            self.graph,
            self.shown,
            strength=self.measures.reach + np.float32(ALWAYS) * self._wanted,
            width=width,
            height=self.room.height - TOP - below,
            opened=self.opened,
        )

    def across(self, pixels: float) -> float:
        """Pixels from the left, in the coordinates of the axes."""
        return round(float(pixels) * UNITS / self.placement.width, 1)

    def up(self, pixels: float) -> float:
        """Pixels from below, in the coordinates of the axes."""
        return round(float(pixels) * UNITS / self.placement.height, 1)

    @cached_property
    def x(self) -> npt.NDArray[np.float64]:
        """(n_nodes,) where nodes are in the coordinates of the axes; NaN where not drawn."""
        return np.round(self.placement.x * UNITS / self.placement.width, 1)

    @cached_property
    def y(self) -> npt.NDArray[np.float64]:
        """(n_nodes,) where nodes are in the coordinates of the axes; NaN where not drawn."""
        return np.round(self.placement.y * UNITS / self.placement.height, 1)

    @cached_property
    def drawn(self) -> npt.NDArray[np.bool_]:
        """Which nodes have a mark of their own, (n_nodes,)."""
        return ~np.isnan(self.placement.x)

    @cached_property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Numbers of the nodes in the picture, alone or in a mark, ascending."""
        return np.flatnonzero(self.shown)

    @property
    def left_out(self) -> dict[str, int]:
        """How many nodes are not drawn, by reason.

        `room` (gathered in marks), `errors`, `layers`, `influence`, `density`.
        """
        counts = {"room": int((self.shown & ~self.drawn).sum())}
        counts.update({reason: int(out.sum()) for reason, out in self._reasons.items()})
        return {reason: count for reason, count in counts.items() if count}

    @property
    def summary(self) -> str:
        """How many nodes are drawn, and why the others are not, in one line of plain text."""
        words = {
            "room": "in + marks",
            "errors": "errors",
            "layers": "in other layers",
            "influence": f"beyond {percent(self.kept)} of the influence",
            "density": "that fire on nearly everything",
        }
        told = ", ".join(f"{count} {words[reason]}" for reason, count in self.left_out.items())
        drawn = f"{int(self.drawn.sum())} of {self.graph.n_nodes} nodes drawn"
        return f"{drawn}; left out: {told}" if told else drawn

    @cached_property
    def sizes(self) -> npt.NDArray[np.float64]:
        """Marker diameter of every node in pixels, by influence, (n_nodes,)."""
        blocks = self.graph.blocks
        top = float(self.influence[: blocks.errors.stop].max(initial=0)) or 1.0
        sizes = 5.0 + 8.0 * np.sqrt(np.clip(self.influence / top, 0, 1))
        sizes[blocks.tokens] = 8.0
        sizes[blocks.targets] = 8.0
        sizes[blocks.targets.start : blocks.targets.start + 1] = 12.0
        return np.round(sizes, 1).astype(np.float64)

    @cached_property
    def opacities(self) -> npt.NDArray[np.float64]:
        """Opacity of every node by influence, (n_nodes,)."""
        blocks = self.graph.blocks
        top = float(self.influence[: blocks.errors.stop].max(initial=0)) or 1.0
        faint = 0.4 + 0.6 * np.clip(self.influence / top, 0, 1) ** 0.4
        faint[blocks.errors] *= 0.7
        faint[blocks.tokens.start :] = 1.0
        return np.round(faint, 2).astype(np.float64)


def graph_layout(view: GraphView, bold: Collection[int] = ()) -> dict[str, Any]:
    """The Plotly layout of a view: axes of tokens and layers, sizes in pixels.

    Args:
        view: What is drawn.
        bold: Positions whose tokens stand out.
    """
    placement = view.placement
    below = BOTTOM + (ASLANT if placement.aslant else 0)
    axis = {
        "showgrid": False,
        "zeroline": False,
        "fixedrange": False,
        "tickfont": {"size": SMALL},
        "range": [0, UNITS],
        "minallowed": 0,
        "maxallowed": UNITS,
        **TICKS,
    }
    tokens, levels = _token_ticks(view, bold), _level_ticks(view)
    return {
        "template": "none",
        "font": {"family": FONT, "size": BODY, "color": GREY},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": LEFT, "r": RIGHT, "t": TOP, "b": below},
        "height": round(placement.height + TOP + below),
        "hovermode": "closest",
        "hoverdistance": 12,
        "hoverlabel": {"font": {"family": FONT, "size": BODY}, "align": "left"},
        "dragmode": "pan",
        "showlegend": False,
        "xaxis": {
            **axis,
            "tickvals": [view.across(at) for at, _ in tokens],
            "ticktext": [text for _, text in tokens],
            "tickangle": -40 if placement.aslant else 0,
        },
        "yaxis": {
            **axis,
            "tickvals": [view.up(at) for at, _ in levels],
            "ticktext": [text for _, text in levels],
            "tickangle": 0,
        },
    }


def _token_ticks(view: GraphView, bold: Collection[int]) -> list[tuple[float, str]]:
    return [(band.middle, _token_name(view, band, bold)) for band in view.placement.columns]


def _token_name(view: GraphView, band: Band, bold: Collection[int]) -> str:
    position, *more = band.keys
    if more:
        return "…"
    text = plotly_text(shorten(token_text(view.graph.tokens[position]), TOKEN_LENGTH))
    return f"<b>{text}</b>" if position in bold else text


def _level_ticks(view: GraphView) -> list[tuple[float, str]]:
    """Names of the rows: the ends, folded ones, and others where there is room for their names."""
    rows = list(view.placement.rows)
    tokens, layers, top = rows[0], rows[1:-1], rows[-1]
    ticks = [(tokens.middle, _level_name(tokens)), (top.low + 8, "output")]
    ends = layers[:1] + layers[-1:]
    folded = [band for band in layers if len(band.keys) > 1]
    fifths = [band for band in layers if (band.keys[0] - 1) % 5 == 0]
    for band in [*ends, *folded, *fifths, *layers]:
        if all(abs(band.middle - at) >= APART for at, _ in ticks):
            ticks.append((band.middle, _level_name(band, short=band not in ends)))
    return sorted(ticks)


def _level_name(band: Band, *, short: bool = False) -> str:
    first, last = band.keys[0] - 1, band.keys[-1] - 1
    if first < 0:
        return "tokens"
    numbers = str(first) if first == last else f"{first}–{last}"
    return numbers if short or first != last else f"layer {numbers}"
