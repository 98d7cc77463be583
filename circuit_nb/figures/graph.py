"""The attribution graph as a Plotly figure: tokens along x, layers up y.

The figure is a short list of named traces and a backdrop of shapes, drawn once for each filter, and
of further shapes, which are all that a click changes (`Scene.moving`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

import plotly.graph_objects as go

from circuit_nb.analysis import Path, story
from circuit_nb.figures.measures import Measures
from circuit_nb.figures.names import NO_LABELS, Labels, named, node_name, node_place
from circuit_nb.figures.naming import picture_name
from circuit_nb.figures.scene import Scene, mark_text, written
from circuit_nb.figures.style import FONT, GREY, SMALL, number, percent, plotly_text, shorten
from circuit_nb.figures.view import GraphView, Room, Spec, Trace, graph_layout
from circuit_nb.graph import AttributionGraph, ErrorNode, Feature, Node, Supernode, TargetNode

ORDER = ("errors", "tokens", "outputs", "features", "marks", "words")
"""Every trace of the figure by name, from the back to the front."""


def graph_figure(
    graph: AttributionGraph,
    *,
    labels: Labels = NO_LABELS,
    selected: Node | None = None,
    supernodes: Sequence[Supernode] = (),
    kept: float | None = None,
    errors: bool = True,
    everywhere: bool = False,
    paths: Sequence[Path] | None = None,
    room: Room | None = None,
) -> go.Figure:
    """Draw an attribution graph: ● features, ◇ errors, ■ tokens below and outputs above.

    Args:
        graph: The graph, pruned or not.
        labels: Labels of features by (layer, index).
        selected: A node whose edges are drawn signed, blue raises, vermillion lowers; by default
            the likeliest output.
        supernodes: Groups of features, each in a colour of its own.
        kept: Share of the influence whose nodes are drawn, 0 to 1; by default so much that about
            `measures.MOST` nodes are drawn.
        errors: Whether error nodes are drawn.
        everywhere: Whether features that fire on nearly everything are drawn.
        paths: Paths to highlight; by default how `analysis.story` says the first word leads to
            the answer, in two ways where there are so many.
        room: Size in pixels. By default the figure is as wide as where it is shown, at least 868
            pixels.

    Returns:
        The figure; it is not shown. `figure.layout.meta["summary"]` says how many nodes are drawn.
    """
    return graph_figures(
        graph,
        [room],
        labels=labels,
        selected=selected,
        supernodes=supernodes,
        kept=kept,
        errors=errors,
        everywhere=everywhere,
        paths=paths,
    )[0]


def graph_figures(
    graph: AttributionGraph,
    rooms: Sequence[Room | None],
    *,
    labels: Labels = NO_LABELS,
    selected: Node | None = None,
    supernodes: Sequence[Supernode] = (),
    kept: float | None = None,
    errors: bool = True,
    everywhere: bool = False,
    paths: Sequence[Path] | None = None,
) -> list[go.Figure]:
    """What `graph_figure` draws, for several sizes at once."""
    measures = Measures(graph)
    if paths is None:
        paths = story(graph, named(labels), top_k=1, ways=2)
    if selected is None and graph.targets:
        selected = TargetNode(0)
    grouped = (f for s in supernodes for f in s.features)
    always = {*grouped, *(n for p in paths for n in p.nodes), selected}
    view = partial(
        GraphView,
        measures,
        measures.usual if kept is None else kept,
        errors,
        frozenset(n for n in always if n is not None and n in graph),
        everywhere,
    )
    figures: list[go.Figure] = []
    for room in rooms:
        scene = Scene(view(room=room or Room()), labels, tuple(supernodes), (), tuple(paths))
        spec = graph_spec(scene, selected)
        if room is not None:
            spec["layout"]["width"] = room.width
        figures.append(go.Figure(spec))
    return figures


def graph_spec(
    scene: Scene,
    selected: Node | None = None,
    *,
    links: str = "both",
    switched: Collection[Node] = (),
    notes: Labels = NO_LABELS,
) -> Spec:
    """The whole figure of a scene as plain data.

    Args:
        scene: What is drawn.
        selected: The node whose edges are drawn signed.
        links: Which of them: `inputs`, `outputs` or `both`.
        switched: Nodes that a switch holds at another value.
        notes: A further line for the hover of a feature, by (layer, index).
    """
    traces = scene_traces(scene, notes=notes)
    layout = graph_layout(scene.view, scene.bold)
    moving = scene.moving(selected, links=links, switched=switched)
    layout["shapes"] = [*scene.backdrop, *moving]
    layout["meta"] = {"summary": scene.view.summary}
    return {"data": [{"name": name, **traces[name]} for name in ORDER], "layout": layout}


def scene_traces(scene: Scene, *, notes: Labels = NO_LABELS) -> dict[str, Trace]:
    """The traces of a scene by name; a selection changes none of them.

    Args:
        scene: What is drawn.
        notes: A further line for the hover of a feature, by (layer, index).
    """
    view = scene.view
    blocks = view.graph.blocks
    kinds = {
        "features": (blocks.features, "circle"),
        "errors": (blocks.errors, "diamond-open"),
        "tokens": (blocks.tokens, "square"),
        "outputs": (blocks.targets, "square"),
    }
    traces: dict[str, Trace] = {}
    drawn = view.numbers[view.drawn[view.numbers]]
    for name, (block, symbol) in kinds.items():
        numbers = drawn[(drawn >= block.start) & (drawn < block.stop)]
        traces[name] = {
            "type": "scatter",
            "x": view.x[numbers].tolist(),
            "y": view.y[numbers].tolist(),
            "mode": "markers",
            "customdata": numbers.tolist(),
            "hovertext": [_hover(scene, int(n), notes) for n in numbers],
            "hoverinfo": "text",
            "marker": {
                "symbol": symbol,
                "size": view.sizes[numbers].tolist(),
                "opacity": view.opacities[numbers].tolist(),
                "color": [scene.colours[n] for n in numbers],
                "line": {"width": 1.0 if symbol.endswith("open") else 0},
            },
        }
    traces["marks"] = _marks(scene)
    traces["words"] = _words(scene)
    return traces


def _marks(scene: Scene) -> Trace:
    view, marks = scene.view, scene.view.placement.marks
    return {
        "type": "scatter",
        "x": [view.across(m.x) for m in marks],
        "y": [view.up(m.y) for m in marks],
        "mode": "markers+text",
        "customdata": [list(m.place) for m in marks],
        "text": [mark_text(len(m.numbers)) for m in marks],
        "textposition": "middle center",
        "textfont": {"size": SMALL, "color": GREY, "family": FONT},
        "hovertext": [_mark_hover(scene, m.numbers) for m in marks],
        "hoverinfo": "text",
        "marker": {"size": 15, "opacity": 0, "symbol": "circle", "color": GREY},
    }


def _mark_hover(scene: Scene, numbers: Sequence[int]) -> str:
    graph = scene.view.graph
    names = [node_name(graph, graph.nodes[n], scene.labels) for n in numbers[:8]]
    lines = [plotly_text(shorten(name, 40)) for name in names]
    more = [f"and {len(numbers) - 8} more"] if len(numbers) > 8 else []
    return "<br>".join([f"<b>{len(numbers)} nodes; click to open</b>", *lines, *more])


def _words(scene: Scene) -> Trace:
    view, words = scene.view, scene.standing.words
    return {
        "type": "scatter",
        "x": [view.across(w.x) for w in words],
        "y": [view.up(w.y) for w in words],
        "mode": "text",
        "text": [written(w) for w in words],
        "textposition": [f"middle {w.side}" for w in words],
        "textfont": {"size": [w.size for w in words], "color": GREY, "family": FONT},
        "hoverinfo": "skip",
    }


def _hover(scene: Scene, at: int, notes: Labels) -> str:
    graph, view = scene.view.graph, scene.view
    node = graph.nodes[at]
    name = node_name(graph, node, scene.labels)
    lines = [
        f"<b>{plotly_text(shorten(name, 60))}</b>",
        plotly_text(node_place(graph, node)),
    ]
    if isinstance(node, Feature):
        lines.append(f"feature {node.index}, activation {number(float(graph.activations[at]))}")
        if view.measures.everywhere[at] or (node.layer, node.index) not in scene.labels:
            lines.append(plotly_text(picture_name(view.measures, node)))
    if isinstance(node, Feature | ErrorNode):
        lines.append(f"influence {percent(float(view.influence[at]))}")
    if isinstance(node, Feature) and (note := notes.get((node.layer, node.index))):
        lines.append(plotly_text(shorten(note, 80)))
    return "<br>".join(lines)
