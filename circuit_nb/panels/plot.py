"""A place for one figure at a time, with a line of words above it."""

from __future__ import annotations

import ipywidgets
import plotly.graph_objects as go

from circuit_nb.figures.style import html_text
from circuit_nb.panels.page import Fit


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
        # What was shown is closed at the end only: the page may still be busy with it.
        self._old += self.children
        # Before the widget is made: what changes before the plot is drawn on the page is lost.
        figure.layout.autosize = True
        self.figure = go.FigureWidget(figure)
        # The trait has no public name; without it plots show a toolbar and keep their first width.
        self.figure.set_trait("_config", {"displayModeBar": False, "responsive": True})
        head = ipywidgets.HTML(f'<div class="cnb cnb-head">{html_text(words)}</div>')
        self.children = [head, self.figure, Fit()]

    def clear(self) -> None:
        """Show nothing."""
        self._old += self.children
        self.children, self.figure = (), None

    def close(self) -> None:
        """Close this and every figure that was shown."""
        for widget in (*self._old, *self.children):
            widget.close()
        super().close()
