"""The library's own figures as plain SVG: where no JavaScript runs, and where it would be slow.

Draws what `circuit_nb.figures` puts into a figure (scatter, bars, shapes, tick labels) and no
more; it is not a renderer for every Plotly figure.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go

from circuit_nb.figures.style import BODY, FONT, GREY, LEADING, SMALL, html_text
from circuit_nb.figures.svg_shapes import Area, begin, outline
from circuit_nb.figures.view import Spec, Trace

_TAG = re.compile(r"<[^<>]*>")


def to_svg(figure: go.Figure | Spec, *, width: int = 640, keys: bool = False) -> str:
    """A figure of this library as one `<svg>` element.

    Args:
        figure: The figure.
        width: Width in pixels where the figure has none of its own.
        keys: Name each rectangle with its `data-key`, and let it take the keyboard focus.
    """
    inner, size = draw(figure, width=width, keys=keys)
    return frame(inner, size)


def frame(inner: str, size: tuple[float, float]) -> str:
    """Wrap drawn elements in an `<svg>` of the given width and height, pixels."""
    width, height = size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" style="max-width:100%;height:auto" '
        f'font-family="{html_text(FONT)}" font-size="{BODY}" fill="{GREY}">{inner}</svg>'
    )


def draw(
    figure: go.Figure | Spec, *, width: int = 640, keys: bool = False
) -> tuple[str, tuple[float, float]]:
    """The elements of a figure, and its width and height in pixels."""
    spec: Spec = figure if isinstance(figure, dict) else figure.to_plotly_json()
    layout: Spec = spec["layout"]
    area = Area(layout, width)
    titles: dict[str, str] = layout.get("meta") or {}
    parts = [
        *_ticks(layout, area),
        *(_shape(s, area, titles, keys) for s in layout.get("shapes") or () if not _is_above(s)),
    ]
    for trace in spec["data"]:
        if trace["type"] == "scatter":
            parts += [*_line(trace, area), *_markers(trace, area), *_texts(trace, area)]
    parts += _bars(spec, area)
    parts += (_shape(s, area, titles, keys) for s in layout.get("shapes") or () if _is_above(s))
    return "".join(parts), (area.width, area.height)


def plain(text: str) -> str:
    """Text of a figure as it is read: tags are the library's own, entities are data."""
    return html.unescape(_TAG.sub("", text))


def _title(text: str | None) -> str:
    return f"<title>{html_text(plain(text.replace('<br>', ' · ')))}</title>" if text else ""


def _text(x: float, y: float, text: str, *, anchor: str, size: float, colour: str = GREY) -> str:
    """A text of one or more lines, the last of which stands at y."""
    weight = ' font-weight="600"' if text.startswith("<b>") else ""
    lines = text.split("<br>")
    return "".join(
        f'<text x="{x:g}" y="{y - (len(lines) - 1 - i) * LEADING * size:g}" text-anchor="{anchor}" '
        f'font-size="{size:g}" fill="{colour}"{weight}>{html_text(plain(line))}</text>'
        for i, line in enumerate(lines)
    )


def _ticks(layout: Spec, area: Area) -> Iterator[str]:
    for name in ("xaxis", "yaxis"):
        axis = layout[name]
        if axis.get("visible") is False or axis.get("showticklabels") is False:
            continue
        for value, text in zip(axis.get("tickvals", ()), axis.get("ticktext", ()), strict=True):
            if name == "xaxis":
                yield _text(area.x(value), area.bottom + 16, text, anchor="middle", size=SMALL)
            else:
                yield _text(area.left - 7, area.y(value) + 4, text, anchor="end", size=SMALL)


def _each(value: Any, count: int) -> list[Any]:
    """A property given once or for each point, as a list."""
    return list(value) if isinstance(value, list | tuple) else [value] * count


def _places(trace: Trace, area: Area) -> list[tuple[float, float] | None]:
    """Pixels of each point; None for a gap."""
    pairs = zip(trace["x"], trace["y"], strict=True)
    return [None if x is None or y is None else (area.x(x), area.y(y)) for x, y in pairs]


def _line(trace: Trace, area: Area) -> Iterator[str]:
    steps: list[str] = []
    pen = "M"
    for place in _places(trace, area) if trace["mode"] == "lines" else ():
        if place is None:
            pen = "M"
            continue
        steps.append(f"{pen}{place[0]:g} {place[1]:g}")
        pen = "L"
    if steps:
        line = trace["line"]
        yield (
            f'<path d="{"".join(steps)}" fill="none" stroke="{line["color"]}" '
            f'stroke-width="{line["width"]:g}" opacity="{trace.get("opacity", 1):g}"/>'
        )


def _markers(trace: Trace, area: Area) -> Iterator[str]:
    marker = trace.get("marker", {})
    if "markers" not in trace["mode"] or marker.get("opacity") == 0:
        return
    places = _places(trace, area)
    properties = zip(
        places,
        _each(marker["size"], len(places)),
        _each(marker["color"], len(places)),
        _each(marker.get("opacity", 1.0), len(places)),
        _each(trace.get("hovertext"), len(places)),
        strict=True,
    )
    border = float(marker["line"]["width"])
    for place, size, colour, opacity, hover in properties:
        if place is not None:
            drawn = _symbol(marker["symbol"], place, size / 2, colour, border)
            yield f'<g opacity="{opacity:g}">{drawn}{_title(hover)}</g>'


def _symbol(symbol: str, at: tuple[float, float], half: float, colour: str, border: float) -> str:
    x, y = at
    far = 1.3 * half
    stroke = f'fill="none" stroke="{colour}" stroke-width="{border:g}"'
    return {
        "circle": f'<circle cx="{x:g}" cy="{y:g}" r="{half:g}" fill="{colour}"/>',
        "circle-open": f'<circle cx="{x:g}" cy="{y:g}" r="{half:g}" {stroke}/>',
        "square": f'<rect x="{x - half:g}" y="{y - half:g}" width="{2 * half:g}" '
        f'height="{2 * half:g}" fill="{colour}"/>',
        "diamond-open": f'<path d="M{x:g} {y - far:g}l{far:g} {far:g}l-{far:g} {far:g}'
        f'l-{far:g} -{far:g}z" {stroke}/>',
        "diamond": f'<path d="M{x:g} {y - far:g}l{far:g} {far:g}l-{far:g} {far:g}'
        f'l-{far:g} -{far:g}z" fill="{colour}"/>',
        "x-thin": f'<path d="M{x - half:g} {y - half:g}l{2 * half:g} {2 * half:g}'
        f'm0 -{2 * half:g}l-{2 * half:g} {2 * half:g}" {stroke}/>',
    }[symbol]


def _texts(trace: Trace, area: Area) -> Iterator[str]:
    if "text" not in trace["mode"] or not trace["text"]:
        return
    places, font = _places(trace, area), trace["textfont"]
    fonts = _each(font["size"], len(places))
    sides = _each(trace["textposition"], len(places))
    sizes = _each(trace.get("marker", {}).get("size", 0.0), len(places))
    yield f'<g opacity="{trace.get("opacity", 1):g}" pointer-events="none">'
    each = zip(places, sides, sizes, trace["text"], fonts, strict=True)
    for place, side, marker, text, size in each:
        if place is not None and text:
            x, y, anchor = _beside(place, side, size, beside(marker), 1 + text.count("<br>"))
            yield _text(x, y, text, anchor=anchor, size=size, colour=font["color"])
    yield "</g>"


def beside(size: float) -> float:
    """How far from a marker's middle Plotly writes its text, pixels."""
    return size / 2 / 0.8 + 1 if size else 0.0


def _beside(
    at: tuple[float, float], side: str, size: float, gap: float, lines: int
) -> tuple[float, float, str]:
    """Where the last line of a text stands, and which part of it."""
    vertical, horizontal = side.split()
    below = (lines - 1) * LEADING * size
    lift = {
        "top": -gap - 0.25 * size,
        "middle": 0.36 * size + below / 2,
        "bottom": gap + 0.75 * size + below,
    }[vertical]
    shift = {"left": -gap, "center": 0.0, "right": gap}[horizontal]
    anchor = {"left": "end", "center": "middle", "right": "start"}[horizontal]
    return at[0] + shift, at[1] + lift, anchor


def _is_above(shape: Spec) -> bool:
    return shape.get("layer", "above") == "above"


def _shape(shape: Spec, area: Area, titles: dict[str, str], keys: bool) -> str:
    if "label" in shape:
        return _label(shape, area)
    if shape["type"] != "rect":
        return outline(shape, area)
    left, right = sorted((area.x(shape["x0"]), area.x(shape["x1"])))
    top, bottom = sorted((area.y(shape["y0"]), area.y(shape["y1"])))
    key = f' data-key="{html_text(shape["name"])}" tabindex="0" role="button"' if keys else ""
    line = shape["line"]
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" '
        f'rx="7" fill="{shape["fillcolor"]}" stroke="{line["color"]}" '
        f'stroke-width="{line["width"]:g}" opacity="{shape["opacity"]:g}"{key}>'
        f"{_title(titles.get(shape['name']))}</rect>"
    )


def _label(shape: Spec, area: Area) -> str:
    """A text whose middle is at the shape's place, or that begins or ends there."""
    label = shape["label"]
    anchor = {"left": "start", "center": "middle", "right": "end"}[label["xanchor"]]
    size, text = label["font"]["size"], label["text"]
    x, y = begin(shape, area)
    below = 0.36 * size + text.count("<br>") * LEADING * size / 2
    return _text(x, y + below, text, anchor=anchor, size=size)


def _bars(spec: Spec, area: Area) -> Iterator[str]:
    traces = [t for t in spec["data"] if t["type"] == "bar"]
    thickness = 0.75 / max(len(traces), 1)
    for number, trace in enumerate(traces):
        shift = (number - (len(traces) - 1) / 2) * thickness
        if trace.get("orientation") == "h":
            yield from _flat(trace, area, shift, thickness)
        else:
            yield from _upright(trace, area)


def _flat(trace: Trace, area: Area, shift: float, thickness: float) -> Iterator[str]:
    marker, count = trace["marker"], len(trace["y"])
    colours = _each(marker["color"], count)
    rows = zip(trace["y"], trace["x"], colours, trace["text"], trace["hovertext"], strict=True)
    for y, x, colour, text, hover in rows:
        left, right = sorted((area.x(0), area.x(x)))
        ends = sorted((area.y(y + shift - 0.46 * thickness), area.y(y + shift + 0.46 * thickness)))
        yield (
            f'<rect x="{left:g}" y="{ends[0]:g}" width="{max(right - left, 0.5):g}" '
            f'height="{ends[1] - ends[0]:g}" fill="{colour}" '
            f'opacity="{marker.get("opacity", 1):g}">{_title(hover)}</rect>'
        )
        at, anchor = (right + 4, "start") if x >= 0 else (left - 4, "end")
        yield _text(at, sum(ends) / 2 + 4, text, anchor=anchor, size=SMALL)


def _upright(trace: Trace, area: Area) -> Iterator[str]:
    bars = zip(trace["x"], trace["y"], trace["width"], trace["hovertext"], strict=True)
    for x, y, width, hover in bars:
        left, right = area.x(x - width / 2), area.x(x + width / 2)
        top, bottom = area.y(y), area.y(0)
        yield (
            f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" '
            f'fill="{trace["marker"]["color"]}">{_title(hover)}</rect>'
        )
