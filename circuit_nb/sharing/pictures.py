"""The panels' own figures as plain numbers and texts, which the page's script puts on the screen.

Everything is laid out here, by `circuit_nb.figures`, for several widths and shares of influence;
the script only chooses among them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from circuit_nb.figures.arrows import curve
from circuit_nb.figures.circuit import Circuit, circuit
from circuit_nb.figures.edges import PATH_OPACITY, PATH_WIDTH, STEPS
from circuit_nb.figures.graph import graph_spec
from circuit_nb.figures.scene import Scene
from circuit_nb.figures.style import GREY, NEGATIVE, POSITIVE, percent
from circuit_nb.figures.subgraph import Group
from circuit_nb.figures.svg import plain, to_svg
from circuit_nb.figures.svg_shapes import Area, path_data
from circuit_nb.figures.view import Room
from circuit_nb.graph import Feature, Node, Supernode, TargetNode
from circuit_nb.panels.session import Session

ROOMS = (Room(344, 430), Room(560, 430), Room(800, 460), Room(1100, 560))
"""Sizes that the graph is drawn in; the page shows the widest that fits."""
LEVELS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Shares of the influence that a reader can choose, beside the one the page opens with."""
MOST_DRAWN = 400
"""A level at which more nodes would be drawn is not offered."""
WIDTHS = ((320.0, True), (520.0, False), (760.0, False), (1000.0, False))
"""Widths that the circuit is laid out for, and whether it goes upward."""
HEIGHT = 230.0

Numbers: TypeAlias = Mapping[int, int]
"""Number of a node in the page, by its number in the graph."""
STYLE = {
    "raises": POSITIVE,
    "lowers": NEGATIVE,
    "grey": GREY,
    "steps": [list(step) for step in STEPS],
    "path": [PATH_WIDTH, PATH_OPACITY],
}
"""How edges are drawn, as `figures.edges` draws them."""


def levels(session: Session) -> list[float]:
    """The shares of influence to draw, each of which draws other nodes."""
    found: dict[bytes, float] = {}
    for kept in (session.kept, *LEVELS):
        mask = dataclasses.replace(session.view, kept=kept).shown
        if kept == session.kept or int(mask.sum()) <= MOST_DRAWN:
            found.setdefault(mask.tobytes(), kept)
    return sorted(found.values())


def scene(session: Session, kept: float, errors: bool, room: Room) -> Scene:
    """What the graph panel would draw."""
    on_paths = {n for path in session.paths for n in path.nodes if n in session.graph}
    ends = {n for n in (session.selected, TargetNode(0)) if n is not None and n in session.graph}
    base = session.view
    always = base.always | on_paths | ends
    view = dataclasses.replace(base, kept=kept, errors=errors, always=always, room=room)
    setup = session.setup
    return Scene(view, session.labels, setup.supernodes, setup.pinned, session.paths)


def pictures(session: Session, numbers: Numbers) -> list[dict[str, Any]]:
    """The graph at every level, with and without errors, in every size."""
    return [
        _picture(scene(session, kept, errors, room), numbers)
        for kept in levels(session)
        for errors in (True, False)
        for room in ROOMS
    ]


def still(session: Session) -> str:
    """The graph as SVG, as the panel draws it."""
    drawn = scene(session, session.kept, session.errors, ROOMS[2])
    return to_svg(graph_spec(drawn, session.selected), width=round(ROOMS[2].width))


def _picture(scene: Scene, numbers: Numbers) -> dict[str, Any]:
    view = scene.view
    spec = graph_spec(scene)
    layout = spec["layout"]
    area = Area(layout, round(view.room.width))

    def at(x: float, y: float) -> list[float]:
        return [area.x(view.across(x)), area.y(view.up(y))]

    placed, below, beside = view.placement, area.bottom + 16, area.left - 7
    drawn = [n for n in view.numbers.tolist() if view.drawn[n] and n in numbers]
    return {
        "kept": view.kept,
        "errors": view.errors,
        "width": area.width,
        "height": area.height,
        "summary": view.summary,
        "aslant": placed.aslant,
        "ticks": [
            *([area.x(v), below, "below", *told] for v, *told in _ticks(layout["xaxis"])),
            *([beside, area.y(v) + 4, "beside", *told] for v, *told in _ticks(layout["yaxis"])),
        ],
        "lines": [
            [path_data(s, area), s["line"]["color"], s["line"]["width"], s["opacity"]]
            for s in scene.backdrop
            if s["name"].startswith(("edges", "leaders"))
        ],
        "nodes": [
            [
                numbers[n],
                *at(float(placed.x[n]), float(placed.y[n])),
                float(view.sizes[n]),
                float(view.opacities[n]),
                scene.colours[n],
            ]
            for n in drawn
        ],
        "marks": [
            [*at(m.x, m.y), [numbers[n] for n in m.numbers if n in numbers]] for m in placed.marks
        ],
        "words": [
            [numbers.get(w.number), *at(w.x, w.y), w.side, w.size, w.bold, list(w.lines)]
            for w in scene.standing.words
        ],
    }


def _ticks(axis: dict[str, Any]) -> list[tuple[float, str, bool]]:
    """Value, text, and whether it is bold."""
    both = zip(axis["tickvals"], axis["ticktext"], strict=True)
    return [(value, plain(text), text.startswith("<b>")) for value, text in both]


def boxes(session: Session) -> tuple[Group, ...]:
    """The circuit's boxes, as the panel draws them: the groups, then what was added."""
    return (*session.groups, *(a.supernode for a in session.setup.added))


def circuit_data(session: Session, numbers: Numbers) -> dict[str, Any]:
    """The boxes and their layouts."""
    groups = boxes(session)
    graph = session.graph
    return {
        "boxes": [
            {"nodes": [numbers[n] for n in places if n in numbers]}
            for places in ([graph.number(m) for m in _members(g) if m in graph] for g in groups)
        ],
        "layouts": [_layout(session, groups, *width) for width in WIDTHS] if groups else [],
    }


def _members(group: Group) -> Sequence[Node]:
    return group.features if isinstance(group, Supernode) else [group]


def _layout(
    session: Session, groups: Sequence[Group], width: float, upward: bool
) -> dict[str, Any]:
    able, measured = session.model is not None, session.trials.badges()
    # The widest that may be said in a box, so that there is room for it.
    widest: dict[Group, str] = {
        g: max(measured.get(g, ""), percent(1.0), key=len)
        for g in groups
        if able and isinstance(g, Supernode | Feature)
    }
    answers = {g.index: "99.9 → 99.9 %" for g in groups if able and isinstance(g, TargetNode)}
    laid = circuit(
        session.graph,
        groups,
        labels=session.labels,
        guests=[a.supernode for a in session.setup.added],
        badges=widest,
        answers=answers,
        width=width,
        height=0.0 if upward else HEIGHT,
        upward=upward,
        controls=able,
    )
    return {
        "width": round(laid.width, 1),
        "height": round(laid.height, 1),
        "boxes": [
            {
                "name": list(b.name),
                "title": b.title,
                "kind": b.kind,
                "colour": b.colour,
                "place": [b.x, b.y, b.width, b.height],
            }
            for b in laid.boxes
        ],
        "arrows": [
            {
                "ends": [a.source, a.target],
                "share": round(a.share, 6),
                "text": a.text,
                "width": round(a.width, 1),
                "path": _arrow(laid, i, upward),
                "told": None if a.told is None else list(a.told),
            }
            for i, a in enumerate(laid.arrows)
        ],
    }


def _arrow(laid: Circuit, number: int, upward: bool) -> str:
    points = laid.arrows[number].points
    (x, y), *_ = points
    return f"M{x:g} {y:g}" + "".join(
        f"C{a[0]:g} {a[1]:g} {b[0]:g} {b[1]:g} {c[0]:g} {c[1]:g}"
        for a, b, c in curve(points, upward)
    )
