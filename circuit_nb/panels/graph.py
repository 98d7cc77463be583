"""The graph panel: the attribution graph, drawn, walked and clicked."""

from __future__ import annotations

import dataclasses
from typing import Any

import ipywidgets
import plotly.graph_objects as go

from circuit_nb.figures.graph import ORDER, graph_spec, scene_traces
from circuit_nb.figures.placement import Place
from circuit_nb.figures.scene import Scene
from circuit_nb.figures.style import LEGEND, html_text
from circuit_nb.figures.svg import draw
from circuit_nb.figures.view import GraphView, Room, Trace, graph_layout
from circuit_nb.figures.walk import Walk
from circuit_nb.graph import Node
from circuit_nb.panels.base import Drawing, Panel, tooltip
from circuit_nb.panels.lens import NARROWEST, Lens
from circuit_nb.panels.session import Session

NORMAL = "3 1 520px"
"""Flex of the panel within the explorer."""
CLICKABLE = ("features", "errors", "tokens", "outputs", "marks")
SHARED = ("kept", "errors", "links", "everywhere")
"""Controls of what the session says too."""
LOOSE = 1.12
"""How much wider than what it was laid out for a picture may be shown."""
HINT = f"{LEGEND} · click selects, shift-click pins, arrows walk along edges"


class GraphPanel(Panel):
    """The attribution graph: tokens across, layers up, the selected node's edges in colour.

    Args:
        session: What is shown.
        height: Of the picture where it does not fill the window, pixels.
    """

    fills = False  # its own lens zooms, too

    def __init__(self, session: Session, *, height: int = 480) -> None:
        super().__init__(session, "Graph")
        self.pin = ipywidgets.Button(description="Pin")
        tooltip(self.pin, "Add the selected node to the subgraph")
        self.kept = ipywidgets.FloatSlider(
            session.kept,
            min=0.02,
            max=1.0,
            step=0.01,
            readout_format=".0%",
            description="influence",
            continuous_update=False,
        )
        tooltip(self.kept, "Draw the nodes that together hold this share of the influence")
        self.layers = ipywidgets.IntRangeSlider(
            value=(0, max(session.graph.n_layers - 1, 0)),
            min=0,
            max=max(session.graph.n_layers - 1, 0),
            description="layers",
            continuous_update=False,
        )
        tooltip(self.layers, "Draw features and errors of these layers alone")
        self.links = ipywidgets.Dropdown(
            options=["both", "inputs", "outputs"], value=session.links, description="links"
        )
        tooltip(self.links, "Which edges of the selected node are drawn")
        self.errors = ipywidgets.ToggleButton(session.errors, description="errors")
        tooltip(self.errors, "Show what the transcoders fail to reconstruct")
        self.everywhere = ipywidgets.ToggleButton(session.everywhere, description="dense")
        tooltip(self.everywhere, "Show features that fire on nearly everything")
        self.note = ipywidgets.HTML()
        self.lens = Lens(
            self.guard(self._resize),
            self.guard(self._go),
            self.guard(self._pin),
            self.guard(self._go_back),
            self.guard(self._show),
            label="Attribution graph. Arrows walk along edges, Enter pins, plus and minus zoom.",
        )
        self._normal = Room(height=float(height))
        self._room = self._normal
        self._opened: frozenset[Place] = frozenset()
        self._walk = Walk()
        self._updated = False
        self._scene = Scene(session.view, session.labels)
        self._scene = self._scene_now()
        self._drawn: dict[str, Trace] = {}
        self._figure: go.FigureWidget | None = None
        self.frame = ipywidgets.Box([], layout={"width": "100%"})
        self.frame.add_class("cnb-room")
        self._arrange()
        self._listen()

    def _arrange(self) -> None:
        for control, width in (
            (self.pin, "auto"),
            (self.kept, "210px"),
            (self.layers, "180px"),
            (self.links, "120px"),
            (self.errors, "auto"),
            (self.everywhere, "auto"),
        ):
            control.layout.width = width
        for labelled in (self.kept, self.layers, self.links):
            labelled.style.description_width = "initial"
        row = {"flex_flow": "row wrap", "align_items": "center"}
        self.note.layout.flex = "1 1 200px"
        self.heading.layout.flex = "0 0 auto"
        self.children = [c for c in self.children if c is not self.top]
        hint = ipywidgets.HTML(f'<div class="cnb cnb-faint">{HINT}</div>')
        self.body.children = [
            ipywidgets.HBox([self.heading, self.pin, self.note, self.lens], layout=row),
            self.frame,
            ipywidgets.HBox(
                [self.kept, self.layers, self.links, self.errors, self.everywhere], layout=row
            ),
            hint,
        ]

    def _listen(self) -> None:
        session = self.session
        for name in SHARED:
            control = getattr(self, name)
            control.observe(self.guard(lambda c, n=name: setattr(session, n, c["new"])), "value")
        self.layers.observe(self.guard(lambda _: self._redraw()), "value")
        self.pin.on_click(self.guard(lambda _: self._pin()))
        self.watch(self._redraw, "selected", "setup", "paths", "outcome", "learned", *SHARED)

    @property
    def figure(self) -> go.FigureWidget:
        """The plot; made when it is first wanted, for it brings along the whole of Plotly."""
        self._show()
        assert self._figure is not None
        return self._figure

    @property
    def view(self) -> GraphView:
        """What is drawn."""
        return self._scene.view

    def _pin(self) -> None:
        if self.session.selected is None:
            raise ValueError("Select a node first: click it in the graph, or find it.")
        self.session.pin(self.session.selected)

    def _click(self, trace: Any, points: Any, state: Any) -> None:
        for index in points.point_inds:
            if trace.name == "marks":
                layer, position = trace.customdata[index]
                self.unfold(int(layer), int(position))
                continue
            node = self.session.graph.nodes[int(trace.customdata[index])]
            self.session.select(node)
            if state is not None and state.shift:
                self.session.pin(node)

    def click(self, node: Node) -> None:
        """Do what a click on a node does.

        Raises:
            ValueError: If the node is not drawn.
        """
        if not self.view.drawn[self.session.graph.number(node)]:
            raise ValueError(f"{node} is not drawn; raise the share of influence kept.")
        self.session.select(node)

    def unfold(self, level: int, position: int) -> None:
        """Draw every node of a crowded cell, as a click on its mark does.

        Args:
            level: 0 for tokens, layer + 1 for features and errors, then the outputs.
            position: Of the cell's column.
        """
        self._opened |= {(level, position)}
        self._redraw()

    def _go_back(self) -> None:
        """Show the whole picture again, what was opened closed."""
        if self._opened:
            self._opened = frozenset()
            self._redraw()

    def _go(self, way: str) -> None:
        if self._walk.at != self.session.selected:
            self._walk = Walk(self.session.selected)
        self._walk = self._walk.step(self.view, way)
        self.session.select(self._walk.at)

    def _resize(self, width: int, height: int) -> None:
        """Lay the picture out anew where it does not fit the room it has, or leaves much of it."""
        now = self._room
        tall = float(height) or self._normal.height
        width = max(width, NARROWEST)
        fits = now.width <= width <= LOOSE * now.width
        if fits and abs(tall - now.height) < 8:
            return
        self._room = Room(float(width), tall)
        self._redraw()

    def _scene_now(self) -> Scene:
        session = self.session
        every = self.layers.value == (0, max(session.graph.n_layers - 1, 0))
        on_paths = {n for path in session.paths for n in path.nodes if n in session.graph}
        base = session.view
        view = dataclasses.replace(
            base,
            always=base.always | on_paths,
            layers=None if every else self.layers.value,
            opened=self._opened,
            room=self._room,
        )
        if view == self.view:
            view = self.view  # which knows already where everything is
        selected = session.selected
        if selected is not None and not view.drawn[session.graph.number(selected)]:
            view = dataclasses.replace(view, always=view.always | {selected})
        setup = session.setup
        return Scene(view, session.labels, setup.supernodes, setup.pinned, session.paths)

    def _new_figure(self) -> go.FigureWidget:
        spec = graph_spec(self._scene, notes=self.session.cards.promoted)
        self._drawn = {t["name"]: t for t in spec["data"]}
        # What a click changes is the lens's to draw, many times faster than a message to Plotly.
        spec["layout"]["shapes"] = self._scene.backdrop
        figure = go.FigureWidget(spec)
        # The trait has no public name; without it plots show a toolbar and keep their first width.
        # Plotly's buttons are there for the lens to press, and hidden.
        buttons = [["zoomIn2d", "zoomOut2d", "resetScale2d"]]
        config = {"displaylogo": False, "modeBarButtons": buttons, "displayModeBar": True}
        figure.set_trait("_config", {**config, "responsive": True, "scrollZoom": True})
        for name in CLICKABLE:
            trace: Any = figure.data[ORDER.index(name)]
            trace.on_click(self.guard(self._click))
        return figure

    def prepare(self) -> None:
        """Show a figure made anew if this one was changed since it was made.

        Plotly's widget loses properties when changes reach the page before the plot is drawn there.
        """
        if self._updated and self._figure is not None:
            self._figure.close()
            self._figure = None
        self._show()

    def _show(self) -> None:
        """Make the plot if there is none."""
        if self._figure is None:
            self._figure = self._new_figure()
            self.frame.children = [self._figure]
            self._updated = False

    def _redraw(self) -> None:
        """Send what changed, and nothing else."""
        scene, session = self._scene_now(), self.session
        if scene != self._scene:
            self._scene = scene
            if self._figure is not None:
                self._updated = True
                with self._figure.batch_update():
                    self._draw_anew(self._figure)
        self.lens.over = self._scene.moving(
            session.selected, links=session.links, switched=session.switched()
        )
        self._show_controls()

    def _draw_anew(self, figure: go.FigureWidget) -> None:
        """Update the traces and axes that are no longer what they were."""
        traces = scene_traces(self._scene, notes=self.session.cards.promoted)
        for name, trace in traces.items():
            old = self._drawn[name]
            parts = {k: v for k, v in trace.items() if old.get(k) != v}
            if parts:
                figure.data[ORDER.index(name)].update(parts)
                self._drawn[name] = {**trace, "name": name}
        layout = graph_layout(self._scene.view, self._scene.bold)
        for axis in ("xaxis", "yaxis"):
            ticks = {k: layout[axis][k] for k in ("tickvals", "ticktext", "tickangle")}
            figure.layout[axis].update(ticks)
        figure.layout.update({k: layout[k] for k in ("margin", "height")})
        figure.layout.shapes = self._scene.backdrop

    def _show_controls(self) -> None:
        session = self.session
        self.note.value = f'<div class="cnb cnb-faint">{html_text(self.view.summary)}</div>'
        for name in SHARED:
            getattr(self, name).value = getattr(session, name)
        self.lens.said = "" if session.selected is None else session.title(session.selected)
        self.pin.disabled = session.selected is None

    def draw(self) -> Drawing:
        """The graph as it is now."""
        session = self.session
        spec = graph_spec(
            self._scene, session.selected, links=session.links, switched=session.switched()
        )
        return draw(spec, width=round(self._room.width))
