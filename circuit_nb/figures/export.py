"""A figure as one HTML file that opens with no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from circuit_nb.figures.graph import graph_figures
from circuit_nb.figures.names import NO_LABELS, Labels
from circuit_nb.figures.style import FONT, LEGEND, html_text
from circuit_nb.figures.svg import to_svg
from circuit_nb.figures.view import Room
from circuit_nb.files import write_text
from circuit_nb.graph import AttributionGraph, Node, Supernode

ROOMS = tuple(
    Room(width, height)
    for width, height in (
        *((690, 560), (900, 600), (1100, 620), (1300, 640)),
        *((1560, 760), (1860, 900)),
    )
)
"""Sizes that a page of a graph is drawn in; it shows the widest that fits its window."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.45 {font}; margin: 12px auto; max-width: 1880px; padding: 0 12px; }}
h1 {{ font-size: 20px; font-weight: 600; margin: 0 0 2px; }}
p {{ margin: 0 0 2px; font-size: 13px; color: #767676; }}
main {{ overflow-x: auto; }}
.js-plotly-plot .textpoint text, .js-plotly-plot .shape-label text, .js-plotly-plot .xtick text {{
  fill: CanvasText !important; }}
.js-plotly-plot .textpoint text, .js-plotly-plot .shape-label text {{
  paint-order: stroke; stroke: Canvas; stroke-width: 3px; stroke-linejoin: round; }}
</style>
</head>
<body>
<h1>{title}</h1>
{note}
<main>{figure}</main>
{script}</body>
</html>
"""

_CHOOSE = """<script>
(() => {{
  const sizes = {sizes};
  const plot = document.querySelector(".js-plotly-plot, .plotly-graph-div");
  const room = document.querySelector("main");
  let shown = -1;
  const choose = () => {{
    let best = 0;
    sizes.forEach((size, i) => {{ if (size.layout.width <= room.clientWidth) best = i; }});
    const {{ width, ...layout }} = sizes[best].layout;
    const wide = Math.max(width, room.clientWidth);
    plot.parentElement.style.cssText = `width: ${{wide}}px; height: ${{layout.height}}px`;
    if (best !== shown) Plotly.react(plot, sizes[best].data, {{ ...layout, width: wide }});
    else if (plot._fullLayout.width !== wide) Plotly.relayout(plot, {{ width: wide }});
    shown = best;
  }};
  window.addEventListener("resize", choose);
  choose();
}})();
</script>
"""


def write_html(
    figure: go.Figure,
    path: str | Path,
    *,
    title: str = "Attribution graph",
    note: str = "",
    sizes: Sequence[go.Figure] = (),
) -> Path:
    """Write a figure as a self-contained page: plotly.js is inside, nothing is fetched.

    Args:
        figure: The figure.
        path: Where to write; an existing file is replaced.
        title: Title and heading of the page, shown as it is.
        note: Lines under the heading, shown as they are.
        sizes: The same figure drawn for other widths, narrow to wide, each with its width in its
            layout; the page shows the widest that fits.

    Returns:
        The path written.

    Raises:
        OSError: If it cannot be written; one sentence says why.
    """
    body = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        config={"displaylogo": False, "responsive": not sizes, "scrollZoom": True},
    )
    drawn = ", ".join(str(size.to_json()) for size in sizes).replace("<", "\\u003c")
    notes = "".join(f"<p>{html_text(line)}</p>" for line in note.split("\n"))
    script = _CHOOSE.format(sizes=f"[{drawn}]") if sizes else ""
    page = _PAGE.format(title=html_text(title), note=notes, font=FONT, figure=body, script=script)
    return write_text(path, page)


def write_svg(figure: go.Figure | str, path: str | Path, *, width: int = 868) -> Path:
    """Write a figure of this library, or what a panel's `picture()` gives, as an SVG file.

    Args:
        figure: The figure, or an `<svg>` element. For PNG see Plotly's `figure.write_image`, which
            needs kaleido; a page to share saves its panels as PNG with nothing installed.
        path: Where to write; an existing file is replaced.
        width: Width in pixels where the figure has none of its own.

    Returns:
        The path written.

    Raises:
        OSError: If it cannot be written; one sentence says why.
    """
    drawn = figure if isinstance(figure, str) else to_svg(figure, width=width)
    return write_text(path, drawn + "\n")


def write_graph(
    graph: AttributionGraph,
    path: str | Path,
    *,
    labels: Labels = NO_LABELS,
    selected: Node | None = None,
    supernodes: Sequence[Supernode] = (),
    kept: float | None = None,
    title: str = "",
) -> Path:
    """Write an attribution graph as a self-contained page that fits its window.

    Args:
        graph: The graph.
        path: Where to write; an existing file is replaced.
        labels: Labels of features by (layer, index).
        selected: A node whose edges are drawn signed; by default the likeliest output.
        supernodes: Groups of features, each in a colour of its own.
        kept: Share of the influence whose nodes are drawn; by default about 120 nodes'.
        title: Title and heading of the page; by default the prompt.

    Returns:
        The path written.
    """
    sizes = graph_figures(
        graph, ROOMS, labels=labels, selected=selected, supernodes=supernodes, kept=kept
    )
    note = f"{sizes[0].layout.meta['summary']}\n{LEGEND}"
    return write_html(sizes[0], path, title=title or graph.prompt, note=note, sizes=sizes)
