"""The library's own figures as plain SVG: where no JavaScript runs, and where it would be slow.

Draws what `circuit_nb.figures` puts into a figure (scatter, bars, rectangles, tick labels) and no
more; it is not a renderer for every Plotly figure.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

import plotly.graph_objects as go

from circuit_nb.figures.style import BODY, FONT, GREY, html_text

_TAG = re.compile(r"<[^<>]*>")


def to_svg(figure: go.Figure, *, width: int = 640, keys: bool = False) -> str:
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
    figure: go.Figure, *, width: int = 640, keys: bool = False
) -> tuple[str, tuple[float, float]]:
    """The elements of a figure, and its width and height in pixels."""
    area = _Area(figure, width)
    traces: list[Any] = list(figure.data)
    titles: dict[str, str] = dict(figure.layout.meta or {})
    parts = [
        *_ticks(figure, area),
        *(_rectangle(s, area, titles, keys) for s in figure.layout.shapes),
        *(p for t in traces if t.type == "scatter" for p in (*_line(t, area), *_points(t, area))),
        *_bars(figure, area),
    ]
    return "".join(parts), (area.width, area.height)


class _Area:
    """Maps data coordinates to pixels of the drawing."""

    def __init__(self, figure: go.Figure, width: int) -> None:
        layout = figure.layout
        self.width = float(layout.width or width)
        self.height = float(layout.height or 400)
        margin = layout.margin
        self.left, self.right = float(margin.l), self.width - float(margin.r)
        self.top, self.bottom = float(margin.t), self.height - float(margin.b)
        self._x, self._y = tuple(layout.xaxis.range), tuple(layout.yaxis.range)

    def x(self, value: float) -> float:
        low, high = self._x
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        low, high = self._y
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)


def _plain(text: str) -> str:
    """Text of a figure, ready for SVG: tags are the library's own, entities are data."""
    return html_text(html.unescape(_TAG.sub("", text)))


def _title(text: str | None) -> str:
    if not text:
        return ""
    return f"<title>{_plain(text.replace('<br>', ' · '))}</title>"


def _text(x: float, y: float, text: str, *, anchor: str, size: float, colour: str = GREY) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size:g}" '
        f'fill="{colour}">{_plain(text)}</text>'
    )


def _ticks(figure: go.Figure, area: _Area) -> Iterator[str]:
    xaxis, yaxis = figure.layout.xaxis, figure.layout.yaxis
    if xaxis.visible is not False and xaxis.showticklabels is not False:
        for value, text in zip(xaxis.tickvals or (), xaxis.ticktext or (), strict=True):
            yield _text(area.x(value), area.bottom + 16, text, anchor="middle", size=BODY - 1)
    if yaxis.visible is not False and yaxis.showticklabels is not False:
        for value, text in zip(yaxis.tickvals or (), yaxis.ticktext or (), strict=True):
            yield _text(area.left - 6, area.y(value) + 4, text, anchor="end", size=BODY - 1)


def _line(trace: Any, area: _Area) -> Iterator[str]:
    if "lines" not in trace.mode:
        return
    steps: list[str] = []
    pen = "M"
    for x, y in zip(_values(trace.x), _values(trace.y), strict=True):
        if x is None or y is None or x != x:
            pen = "M"
            continue
        steps.append(f"{pen}{area.x(x):g} {area.y(y):g}")
        pen = "L"
    if steps:
        opacity = 1 if trace.opacity is None else trace.opacity
        yield (
            f'<path d="{"".join(steps)}" fill="none" stroke="{trace.line.color}" '
            f'stroke-width="{trace.line.width:g}" opacity="{opacity:g}"/>'
        )


def _values(values: Any) -> list[float | None]:
    return [] if values is None else [None if v is None else float(v) for v in values]


def _each(value: Any, count: int) -> list[Any]:
    """A property given once or for each point, as a list."""
    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        return list(value)
    return [value] * count


def _points(trace: Any, area: _Area) -> Iterator[str]:
    xs, ys = _values(trace.x), _values(trace.y)
    count = len(xs)
    if "markers" in trace.mode and trace.marker.opacity != 0:
        properties = zip(
            xs,
            ys,
            _each(trace.marker.size, count),
            _each(trace.marker.color, count),
            _each(1.0 if trace.marker.opacity is None else trace.marker.opacity, count),
            _each(trace.hovertext, count),
            strict=True,
        )
        for x, y, size, colour, opacity, hover in properties:
            if x is not None and y is not None:
                yield _marker(
                    trace.marker, (area.x(x), area.y(y)), float(size), colour, opacity, hover
                )
    if "text" in trace.mode:
        sides = _each(trace.textposition or "middle center", count)
        texts = _each(trace.text, count)
        font = trace.textfont
        opacity = 1 if trace.opacity is None else trace.opacity
        yield f'<g opacity="{opacity:g}" pointer-events="none">'
        for x, y, side, text in zip(xs, ys, sides, texts, strict=True):
            if x is not None and y is not None and text:
                at = _beside(area.x(x), area.y(y), side, font.size)
                yield _text(
                    at[0], at[1], text, anchor=at[2], size=font.size, colour=font.color or GREY
                )
        yield "</g>"


def _beside(x: float, y: float, side: str, size: float) -> tuple[float, float, str]:
    vertical, horizontal = side.split()
    lift = {"top": -9.0, "middle": 0.36 * size, "bottom": 7.0 + 0.75 * size}[vertical]
    shift = {"left": -9.0, "center": 0.0, "right": 2.0}[horizontal]
    return x + shift, y + lift, {"left": "end", "center": "middle", "right": "start"}[horizontal]


def _marker(
    marker: Any, at: tuple[float, float], size: float, colour: str, opacity: float, hover: Any
) -> str:
    (x, y), half = at, size / 2
    paint = f'fill="{colour}" opacity="{opacity:g}"'
    border = float(marker.line.width or 0)
    shapes = {
        "circle": f'<circle cx="{x:g}" cy="{y:g}" r="{half:g}" {paint}>',
        "circle-open": f'<circle cx="{x:g}" cy="{y:g}" r="{half:g}" fill="none" '
        f'stroke="{colour}" stroke-width="{border:g}">',
        "square": f'<path d="M{x - half:g} {y - half:g}h{size:g}v{size:g}h-{size:g}z" {paint}>',
        "diamond": f'<path d="M{x:g} {y - 1.3 * half:g}l{1.3 * half:g} {1.3 * half:g}'
        f'l-{1.3 * half:g} {1.3 * half:g}l-{1.3 * half:g} -{1.3 * half:g}z" {paint}>',
        "x-thin": f'<path d="M{x - half:g} {y - half:g}l{size:g} {size:g}m0 -{size:g}'
        f'l-{size:g} {size:g}" stroke="{colour}" stroke-width="{border:g}">',
    }
    opened = shapes[marker.symbol or "circle"]
    return f"{opened}{_title(hover)}</{opened[1:].split(' ', 1)[0]}>"


def _rectangle(shape: Any, area: _Area, titles: dict[str, str], keys: bool) -> str:
    left, right = sorted((area.x(shape.x0), area.x(shape.x1)))
    top, bottom = sorted((area.y(shape.y0), area.y(shape.y1)))
    key = f' data-key="{html_text(shape.name)}" tabindex="0" role="button"' if keys else ""
    opacity = 1 if shape.opacity is None else shape.opacity
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" '
        f'rx="7" fill="{shape.fillcolor}" stroke="{shape.line.color or "none"}" '
        f'stroke-width="{shape.line.width:g}" opacity="{opacity:g}"{key}>'
        f"{_title(titles.get(shape.name))}</rect>"
    )


def _bars(figure: go.Figure, area: _Area) -> Iterator[str]:
    every: list[Any] = list(figure.data)
    traces = [t for t in every if t.type == "bar"]
    thickness = 0.75 / max(len(traces), 1)
    for number, trace in enumerate(traces):
        shift = (number - (len(traces) - 1) / 2) * thickness
        yield from (_flat if trace.orientation == "h" else _upright)(trace, area, shift, thickness)


def _flat(trace: Any, area: _Area, shift: float, thickness: float) -> Iterator[str]:
    count = len(trace.y)
    hovers = _each(trace.hovertext, count)
    rows = zip(trace.y, trace.x, _each(trace.marker.color, count), trace.text, hovers, strict=True)
    opacity = 1 if trace.marker.opacity is None else trace.marker.opacity
    for y, x, colour, text, hover in rows:
        left, right = sorted((area.x(0), area.x(x)))
        ends = sorted((area.y(y + shift - 0.46 * thickness), area.y(y + shift + 0.46 * thickness)))
        yield (
            f'<rect x="{left:g}" y="{ends[0]:g}" width="{max(right - left, 0.5):g}" '
            f'height="{ends[1] - ends[0]:g}" fill="{colour}" opacity="{opacity:g}">'
            f"{_title(hover)}</rect>"
        )
        at, anchor = (right + 4, "start") if x >= 0 else (left - 4, "end")
        yield _text(at, sum(ends) / 2 + 4, text, anchor=anchor, size=BODY - 1)


def _upright(trace: Any, area: _Area, shift: float, thickness: float) -> Iterator[str]:
    widths: Sequence[float] = trace.width
    for x, y, width, hover in zip(trace.x, trace.y, widths, trace.hovertext, strict=True):
        left, right = area.x(x - width / 2), area.x(x + width / 2)
        top, bottom = area.y(y), area.y(0)
        yield (
            f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" '
            f'fill="{trace.marker.color}">{_title(hover)}</rect>'
        )
