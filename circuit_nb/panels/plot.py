"""A place for one figure at a time, with a line of words above it."""

from __future__ import annotations

import ipywidgets
import plotly.graph_objects as go

from circuit_nb.figures.style import html_text
from circuit_nb.panels.page import Fit, busy_html


class Plot(ipywidgets.VBox):
    """Shows the figure that a number stands in; empty at first."""

    def __init__(self) -> None:
        super().__init__([])
        self.figure: go.FigureWidget | None = None
        """What is shown."""
        self._old: list[ipywidgets.Widget] = []
        self.add_class("cnb-plot")

    def show(self, figure: go.Figure, words: str) -> None:
        """Show a figure in place of the last.

        Args:
            figure: What is drawn; it takes the width there is.
            words: What it says.
        """
        head = ipywidgets.HTML(f'<div class="cnb cnb-head">{html_text(words)}</div>')
        # The first figure takes seconds, here and on the page, which shows this until it is drawn.
        drawing = ipywidgets.HTML(busy_html("Drawing")).add_class("cnb-drawing")
        if self.figure is None:
            self._put(head, drawing)
        # Before the widget is made: what changes before the plot is drawn on the page is lost.
        figure.layout.autosize = True
        self.figure = go.FigureWidget(figure)
        # The trait has no public name; without it plots show a toolbar and keep their first width.
        self.figure.set_trait("_config", {"displayModeBar": False, "responsive": True})
        self._put(head, drawing, self.figure, Fit())

    def wait(self, words: str) -> None:
        """Say in place of a figure what it takes time for; `show` ends it."""
        self.figure = None
        self._put(ipywidgets.HTML(busy_html(words)))

    def clear(self) -> None:
        """Show nothing."""
        self.figure = None
        self._put()

    def _put(self, *children: ipywidgets.Widget) -> None:
        # What was shown is closed at the end only: the page may still be busy with it.
        self._old += [child for child in self.children if child not in children]
        self.children = children

    def close(self) -> None:
        """Close this and every figure that was shown."""
        for widget in (*self._old, *self.children):
            widget.close()
        super().close()
