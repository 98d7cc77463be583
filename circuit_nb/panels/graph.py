"""The graph panel: the attribution graph, drawn, searched and clicked."""

from __future__ import annotations

from typing import Any

import ipywidgets
import plotly.graph_objects as go

from circuit_nb.figures.graph import (
    ORDER,
    assemble,
    background_traces,
    node_traces,
    path_traces,
    pinned_trace,
    selection_traces,
    switched_trace,
)
from circuit_nb.figures.names import Labels
from circuit_nb.figures.svg import draw
from circuit_nb.figures.view import GraphView, Trace, graph_layout
from circuit_nb.graph import Node
from circuit_nb.panels.base import Drawing, Panel, tooltip
from circuit_nb.panels.page import Fit
from circuit_nb.panels.session import Session
from circuit_nb.panels.state import Setup

NORMAL = "3 1 520px"
"""Flex of the panel within the explorer."""
CLICKABLE = ("features", "errors", "tokens", "outputs")
MARGINS = 64
"""What lies beside the columns of tokens, pixels."""
LEGEND = (
    "● feature  ◆ error  ■ token, output · edges of the selected node: blue raises, orange lowers "
    "· click selects, shift-click pins"
)


class GraphPanel(Panel):
    """The attribution graph: tokens across, layers up, the selected node's edges in colour.

    Args:
        session: What is shown.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Graph")
        self.kept = ipywidgets.FloatSlider(
            session.kept, min=0.3, max=1.0, step=0.01, readout_format=".0%", description="influence"
        )
        tooltip(self.kept, "Draw the nodes that together hold this share of the influence")
        self.errors = ipywidgets.ToggleButton(session.errors, description="errors")
        tooltip(self.errors, "Show what the transcoders fail to reconstruct")
        self.links = ipywidgets.Dropdown(
            options=["both", "inputs", "outputs"], value=session.links, description="links"
        )
        tooltip(self.links, "Which edges of the selected node are drawn")
        self.search = ipywidgets.Combobox(
            placeholder="find a node: label, layer, token", continuous_update=False
        )
        tooltip(self.search, "Type a part of a node's name and choose it from the list")
        self.pin = ipywidgets.Button(description="Pin")
        tooltip(self.pin, "Add the selected node to the subgraph")
        self.wide = ipywidgets.ToggleButton(False, description="full width")
        tooltip(self.wide, "Give the graph the whole width of the page")
        self._view: GraphView | None = None
        self._setup: Setup | None = None
        self._drawn: dict[str, Trace] = {}
        self._titles: dict[str, Node] = {}
        self._named_for: tuple[GraphView | None, Labels | None] = (None, None)
        self._labels = session.labels
        self._drawn = self._traces()
        self._updated = False
        self.figure = self._new_figure()
        self._room = ipywidgets.Box([self.figure], layout={"width": "100%"})
        self._room.add_class("cnb-room")
        self._arrange()
        self._listen()

    def _arrange(self) -> None:
        for control, width in (
            (self.search, "260px"),
            (self.pin, "auto"),
            (self.wide, "auto"),
            (self.kept, "260px"),
            (self.errors, "auto"),
            (self.links, "130px"),
        ):
            control.layout.width = width
        self.search.layout.flex = "0 1 auto"
        for labelled in (self.kept, self.links):
            labelled.style.description_width = "initial"
        wrap = {"flex_flow": "row wrap"}
        controls = ipywidgets.VBox(
            [
                ipywidgets.HBox([self.search, self.pin, self.wide], layout=wrap),
                ipywidgets.HBox([self.kept, self.links, self.errors], layout=wrap),
            ]
        )
        legend = ipywidgets.HTML(f'<div class="cnb cnb-faint">{LEGEND}</div>')
        frame = ipywidgets.Box([self._room], layout={"overflow": "auto hidden"})
        self.body.children = [controls, frame, Fit(), legend]

    def _listen(self) -> None:
        session = self.session
        for name in ("kept", "errors", "links"):
            control = getattr(self, name)
            control.observe(self.guard(lambda c, n=name: setattr(session, n, c["new"])), "value")
        self.search.observe(self.guard(lambda c: self._find(c["new"])), "value")
        self.wide.observe(self.guard(lambda c: self._widen(c["new"])), "value")
        self.pin.on_click(self.guard(lambda _: self._pin()))
        names = ("selected", "setup", "kept", "errors", "links", "paths", "outcome", "learned")
        self.watch(self._redraw, *names)

    def _widen(self, wide: bool) -> None:
        self.layout.flex = "1 1 100%" if wide else NORMAL

    def _pin(self) -> None:
        if self.session.selected is None:
            raise ValueError("Select a node first: click it in the graph, or find it in the list.")
        self.session.pin(self.session.selected)

    def _find(self, title: str) -> None:
        if not title:
            return
        if title not in self._titles:
            matches = [t for t in self._titles if title.casefold() in t.casefold()]
            if not matches:
                raise ValueError(f"No node is called {title!r}; choose one from the list.")
            title = matches[0]
        self.session.select(self._titles[title])

    def _click(self, trace: Any, points: Any, state: Any) -> None:
        for index in points.point_inds:
            node = self.session.graph.nodes[int(trace.customdata[index])]
            self.session.select(node)
            if state is not None and state.shift:
                self.session.pin(node)

    def click(self, node: Node) -> None:
        """Do what a click on a node does.

        Raises:
            ValueError: If the node is not drawn.
        """
        number = self.session.graph.number(node)
        for name in CLICKABLE:
            drawn = self._drawn[name]["customdata"]
            if number in drawn:
                self.session.select(node)
                return
        raise ValueError(f"{node} is not drawn; raise the share of influence kept.")

    def _traces(self) -> dict[str, Trace]:
        """Every trace that may have changed."""
        session, traces = self.session, {}
        view = session.view
        moved = view != self._view
        renamed = session.setup != self._setup or session.labels is not self._labels
        if self._view is None or moved:
            self._view = view
            traces.update(background_traces(view))
        view = self._view
        if moved or renamed:
            self._setup = session.setup
            self._labels = session.labels
            traces.update(
                node_traces(
                    view,
                    labels=self._labels,
                    supernodes=session.setup.supernodes,
                    notes=session.cards.promoted,
                )
            )
            traces.update(pinned_trace(view, session.setup.pinned))
        traces.update(path_traces(view, session.paths))
        traces.update(switched_trace(view, session.switched()))
        traces.update(
            selection_traces(
                view,
                session.selected,
                links=session.links,
                labels={**session.cards.given, **session.setup.labels},
                supernodes=session.setup.supernodes,
            )
        )
        return traces

    def _new_figure(self) -> go.FigureWidget:
        assert self._view is not None
        figure = go.FigureWidget(assemble(self._view, self._drawn))
        # The trait has no public name; without it plots show a toolbar and keep their first width.
        figure.set_trait("_config", {"displayModeBar": False, "responsive": True})
        for name in CLICKABLE:
            trace: Any = figure.data[ORDER.index(name)]
            trace.on_click(self.guard(self._click))
        return figure

    def prepare(self) -> None:
        """Show a figure made anew if this one was changed since it was made.

        Plotly's widget loses properties when changes reach the page before the plot is drawn there.
        """
        if self._updated:
            old, self.figure = self.figure, self._new_figure()
            self._room.children = [self.figure]
            self._updated = False
            old.close()

    def _redraw(self) -> None:
        """Send what changed, and nothing else, in one message."""
        before = self._view
        traces = self._traces()
        assert self._view is not None
        with self.figure.batch_update():
            for name, trace in traces.items():
                old = self._drawn.get(name, {})
                changed = {k: v for k, v in trace.items() if old.get(k) != v}
                if changed:
                    self._updated = True
                    self.figure.data[ORDER.index(name)].update(changed)
            if before is not self._view:
                layout = graph_layout(self._view)
                self.figure.layout.update({k: layout[k] for k in ("xaxis", "yaxis", "height")})
        self._drawn.update(traces)
        self._show_controls()

    def _show_controls(self) -> None:
        session, view = self.session, self._view
        assert view is not None
        self._room.layout.min_width = f"{round(view.placement.width) + MARGINS}px"
        labels = session.labels
        if self._named_for[0] is not view or self._named_for[1] is not labels:
            self._named_for = (view, labels)
            shown = [session.graph.nodes[i] for i in view.numbers.tolist()]
            self._titles = {session.title(node): node for node in shown}
            self.search.options = tuple(self._titles)
        self.kept.value, self.errors.value = session.kept, session.errors
        self.links.value = session.links
        self.search.value = "" if session.selected is None else session.title(session.selected)
        self.pin.disabled = session.selected is None

    def draw(self) -> Drawing:
        """The graph as it is now."""
        assert self._view is not None
        width = max(640, round(self._view.placement.width) + MARGINS)
        return draw(assemble(self._view, self._drawn), width=width)
