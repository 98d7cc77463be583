"""A figure as one HTML file that opens with no network."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from circuit_nb.figures.style import FONT, html_text
from circuit_nb.files import write_text

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
body {{ font: 15px/1.45 {font}; margin: 24px auto; max-width: 1100px; padding: 0 16px; }}
h1 {{ font-size: 20px; font-weight: 600; margin: 0 0 4px; }}
p {{ margin: 0 0 12px; color: #767676; }}
main {{ overflow-x: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{note}</p>
<main>{figure}</main>
</body>
</html>
"""


def write_html(
    figure: go.Figure, path: str | Path, *, title: str = "Attribution graph", note: str = ""
) -> Path:
    """Write a figure as a self-contained page: plotly.js is inside, nothing is fetched.

    Args:
        figure: The figure.
        path: Where to write; an existing file is replaced.
        title: Title and heading of the page, shown as it is.
        note: A line under the heading, shown as it is.

    Returns:
        The path written.

    Raises:
        OSError: If it cannot be written; one sentence says why.
    """
    body = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        config={"displaylogo": False, "responsive": True, "scrollZoom": True},
    )
    page = _PAGE.format(title=html_text(title), note=html_text(note), font=FONT, figure=body)
    return write_text(path, page)
