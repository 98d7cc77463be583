"""Figures: data in, `plotly.graph_objects.Figure` out. Nothing here shows or computes anything."""

from __future__ import annotations

from circuit_nb.figures.bars import (
    connections_figure,
    density_figure,
    effects_figure,
    probability_figure,
    targets_of,
)
from circuit_nb.figures.export import write_graph, write_html, write_svg
from circuit_nb.figures.graph import graph_figure
from circuit_nb.figures.subgraph import subgraph_figure
from circuit_nb.figures.svg import to_svg

__all__ = [
    "connections_figure",
    "density_figure",
    "effects_figure",
    "graph_figure",
    "probability_figure",
    "subgraph_figure",
    "targets_of",
    "to_svg",
    "write_graph",
    "write_html",
    "write_svg",
]
