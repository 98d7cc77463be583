"""The circuit as HTML: boxes with their switches over the arrows between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from circuit_nb.figures.arrows import Arrow, Box, Point, curve
from circuit_nb.figures.circuit import Circuit
from circuit_nb.figures.style import NEGATIVE, POSITIVE, html_text
from circuit_nb.panels.state import Switch

MULTIPLIERS = (-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0)
"""Multipliers that a box's menu offers."""
SMALLEST = 0.75
"""Share of its size that a circuit is shrunk to at most."""
SWAP, WHERE = "swap", "where"
"""What else it offers."""


@dataclass(frozen=True)
class Shown:
    """How a box is shown beside what the circuit says of it."""

    switch: Switch | None = None
    """Its setting; None where it has no switch."""
    chosen: bool = False
    spoken: str = ""
    """What a screen reader says of it."""


def circuit_html(
    circuit: Circuit, shown: Sequence[Shown], *, enabled: bool, room: float = 0.0
) -> str:
    """The circuit with a switch and a menu on every box that has one.

    A click on a box reports its key, on its switch `KEY:switch`, a choice in its menu
    `KEY:menu=…`.

    Args:
        circuit: What is drawn.
        shown: How each box is shown.
        enabled: Whether there is a model, so that switches do something.
        room: Pixels of width there are. Where they are too few, all is drawn a little smaller, as
            long as it can be read.
    """
    ways = _ways(circuit)
    boxes = "".join(
        _box(box, how, ways[i], enabled)
        for i, (box, how) in enumerate(zip(circuit.boxes, shown, strict=True))
    )
    size = f"width:{circuit.width:g}px;height:{circuit.height:g}px"
    if 0 < room < circuit.width:
        size += f";zoom:{max(room / circuit.width, SMALLEST):.3f}"
    return (
        f'<div class="cnb-circuit" role="group" aria-label="Circuit" style="{size}">'
        f'<svg aria-hidden="true" width="{circuit.width:g}" height="{circuit.height:g}">'
        f"{''.join(_arrow(a, circuit) for a in reversed(circuit.arrows))}"
        f"{''.join(_number(a) for a in circuit.arrows)}</svg>{boxes}</div>"
    )


def _arrow(arrow: Arrow, circuit: Circuit) -> str:
    (x, y), *_ = arrow.points
    steps = "".join(
        f"C{a[0]:g} {a[1]:g} {b[0]:g} {b[1]:g} {c[0]:g} {c[1]:g}" for a, b, c in curve(arrow.points)
    )
    faint = circuit.boxes[arrow.source].faint
    return (
        f'<path d="M{x:g} {y:g}{steps}" fill="none" '
        f'stroke="{POSITIVE if arrow.share > 0 else NEGATIVE}" stroke-width="{arrow.width:.1f}" '
        f'opacity="{0.25 if faint else 0.7}"/>'
    )


def _number(arrow: Arrow) -> str:
    if arrow.told is None:
        return ""
    x, y = arrow.told
    return f'<text x="{x:g}" y="{y + 4:g}" text-anchor="middle">{html_text(arrow.text)}</text>'


def _box(box: Box, how: Shown, ways: Mapping[str, str], enabled: bool) -> str:
    place = (
        f"left:{box.x - box.width / 2:g}px;top:{box.y - box.height / 2:g}px;"
        f"width:{box.width:g}px;height:{box.height:g}px;--hue:{box.colour}"
    )
    classes = ["cnb-box", f"cnb-box-{box.kind}"]
    classes += ["cnb-on"] if how.chosen else []
    classes += ["cnb-off"] if how.switch is not None and not how.switch.on else []
    classes += ["cnb-less"] if box.faint else []
    arrows = "".join(f' data-{way}="{key}"' for way, key in ways.items())
    name = "<br>".join(html_text(line) for line in box.name)
    told = f'<span class="cnb-told">{html_text(box.told)}</span>' if box.told else ""
    foot = told
    if how.switch is not None and enabled:
        foot = _switch(box, how.switch) + told + _menu(box, how.switch)
    return (
        f'<div class="{" ".join(classes)}" style="{place}">'
        f'<button type="button" class="cnb-name" data-key="{box.key}"{arrows} '
        f'aria-pressed="{str(how.chosen).lower()}" aria-label="{html_text(how.spoken)}" '
        f'title="{html_text(box.title)}">{name}</button>'
        f"{f'<div class=cnb-foot>{foot}</div>' if foot else ''}</div>"
    )


def _switch(box: Box, switch: Switch) -> str:
    said = html_text(f"{' '.join(box.name)}: {'on' if switch.on else 'off'}")
    return (
        f'<button type="button" class="cnb-switch" role="switch" data-key="{box.key}:switch" '
        f'aria-checked="{str(switch.on).lower()}" aria-label="{said}" '
        f'title="{said}; click to switch {"off" if switch.on else "on"}"><i></i></button>'
    )


def _menu(box: Box, switch: Switch) -> str:
    """The multiplier as a choice, with what else can be done to the box."""
    now = switch.multiplier
    offered = sorted({*MULTIPLIERS, now})
    options = [
        f'<option value="{m:g}"{" selected" if m == now else ""}>×{_minus(m)}</option>'
        for m in offered
    ]
    if box.kind != "guest":
        options.append(f'<option value="{SWAP}">swap with …</option>')
    options.append(f'<option value="{WHERE}">where it acts …</option>')
    label = html_text(f"{' '.join(box.name)}: multiplier, and more")
    return (
        f'<span class="cnb-menu"><select data-key="{box.key}:menu" aria-label="{label}" '
        f'title="{label}">{"".join(options)}</select></span>'
    )


def _minus(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _ways(circuit: Circuit) -> list[dict[str, str]]:
    """Where the arrow keys lead from each box: along the strongest arrow, and to neighbours."""
    found: list[dict[str, str]] = []
    for i, box in enumerate(circuit.boxes):
        ways: dict[str, str] = {}
        for arrow in circuit.arrows:  # the strongest come first
            if arrow.source == i:
                ways.setdefault("right", circuit.boxes[arrow.target].key)
            if arrow.target == i:
                ways.setdefault("left", circuit.boxes[arrow.source].key)
        for way, key in _neighbours(box, circuit.boxes):
            ways.setdefault(way, key)
        found.append(ways)
    return found


def _neighbours(box: Box, boxes: Sequence[Box]) -> Iterator[tuple[str, str]]:
    """The nearest box on every side."""

    def far(other: Box, ahead: Point) -> float:
        along = (other.x - box.x) * ahead[0] + (other.y - box.y) * ahead[1]
        aside = abs((other.x - box.x) * ahead[1]) + abs((other.y - box.y) * ahead[0])
        return along + 2 * aside if along > 1 else float("inf")

    sides: dict[str, Point] = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
    for way, ahead in sides.items():
        near = min((b for b in boxes if b is not box), key=lambda b: far(b, ahead), default=None)
        if near is not None and far(near, ahead) < float("inf"):
            yield way, near.key
