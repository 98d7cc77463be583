"""The attribution graph as a Plotly figure: tokens along x, layers up y.

The figure is a fixed list of named traces. What changes when a node is selected lives in its own
small traces (`selection_traces`), so that a selection resends neither nodes nor background edges.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import plotly.graph_objects as go

from circuit_nb.analysis import Path
from circuit_nb.figures.names import NO_LABELS, Labels, node_name, node_place
from circuit_nb.figures.placement import TOKEN_LENGTH, Label, fit_labels
from circuit_nb.figures.style import (
    FONT,
    GREY,
    NEGATIVE,
    POSITIVE,
    SMALL,
    hue,
    number,
    percent,
    plotly_text,
    shorten,
    token_text,
)
from circuit_nb.figures.view import (
    STEPS,
    GraphView,
    Measures,
    Spec,
    Trace,
    coordinates,
    graph_layout,
    segments,
    strength_steps,
)
from circuit_nb.graph import AttributionGraph, ErrorNode, Feature, Node, Supernode

BACKGROUND_EDGES = 300
"""How many of the strongest edges are always drawn, faintly."""
CROWD = 400
"""Up to how many nodes no label may cover any."""
LABEL_LENGTH = 22
"""Characters of a label beside a node."""
RING = 10.0
"""By how much the ring of the selected node is wider than the node, pixels."""


def graph_figure(
    graph: AttributionGraph,
    *,
    labels: Labels = NO_LABELS,
    selected: Node | None = None,
    supernodes: Sequence[Supernode] = (),
    kept: float = 0.8,
    errors: bool = True,
) -> go.Figure:
    """Draw an attribution graph: ● features, ◆ errors, ■ tokens below and outputs above.

    Args:
        graph: The graph, pruned or not.
        labels: Labels of features by (layer, index).
        selected: A node whose edges are drawn signed: blue raises, vermillion lowers.
        supernodes: Groups of features, each in a colour of its own.
        kept: Share of the influence whose nodes are drawn, 0 to 1.
        errors: Whether error nodes are drawn.

    Returns:
        The figure; it is not shown.
    """
    always = frozenset([selected] if selected else []) | {
        f for s in supernodes for f in s.features if f in graph
    }
    view = GraphView(Measures(graph), kept, errors, always)
    traces = {
        **background_traces(view),
        **selection_traces(view, selected, labels=labels, supernodes=supernodes),
        **node_traces(view, labels=labels, supernodes=supernodes),
    }
    return go.Figure(assemble(view, traces))


ORDER = (
    *(f"edges {step}" for step in range(3)),
    *(f"{sign} {step}" for sign in ("raises", "lowers") for step in (2, 1, 0)),
    "path raises",
    "path lowers",
    "pinned",
    "selected",
    "errors",
    "tokens",
    "outputs",
    "features",
    "switched",
    "labels",
)
"""Every trace of the figure by name, from the back to the front."""


def assemble(view: GraphView, traces: dict[str, Trace]) -> Spec:
    """The figure of a view from its traces; those missing are there, empty."""
    empty: Trace = {"type": "scatter", "x": [], "y": [], "mode": "lines", "hoverinfo": "skip"}
    data = [{"name": name, **empty, **traces.get(name, {})} for name in ORDER]
    return {"data": data, "layout": graph_layout(view)}


def background_traces(view: GraphView) -> dict[str, Trace]:
    """The strongest edges between drawn nodes, faint, in three steps of strength."""
    graph = view.graph
    rows = view.shown[graph.rows]
    columns = view.shown[: graph.blocks.tokens.stop]
    flow = np.where(rows[:, None] & columns, view.measures.flow, 0).ravel()
    best = np.flatnonzero(flow)
    if len(best) > BACKGROUND_EDGES:
        best = best[np.argpartition(flow[best], -BACKGROUND_EDGES)[-BACKGROUND_EDGES:]]
    strength = flow[best]
    row, column = np.divmod(best, len(columns))
    targets, sources = graph.rows[row], column
    traces: dict[str, Trace] = {}
    for step, chosen in enumerate(strength_steps(strength)):
        traces[f"edges {step}"] = {
            **segments(view.placement, sources[chosen], targets[chosen]),
            "line": {"color": GREY, "width": STEPS[step][1] * 0.6},
            "opacity": (0.4, 0.28, 0.16)[step],
        }
    return traces


def selection_traces(
    view: GraphView,
    selected: Node | None,
    *,
    links: str = "both",
    labels: Labels = NO_LABELS,
    supernodes: Sequence[Supernode] = (),
) -> dict[str, Trace]:
    """What a selection changes: the node's ring, its edges by sign and strength, the labels.

    Args:
        view: What is drawn.
        selected: The node, or None.
        links: `inputs`, `outputs` or `both`.
        labels: Labels of features by (layer, index).
        supernodes: Groups whose labels come first.
    """
    node = selected if selected is not None and selected in view.graph else None
    return {
        **_edges_of(view, node, links),
        "selected": _ring(view, [node] if node else [], RING, "#000000", 2.0),
        "labels": _label_trace(view, node, labels, supernodes),
    }


def _edges_of(view: GraphView, node: Node | None, links: str) -> dict[str, Trace]:
    graph = view.graph
    traces: dict[str, Trace] = {}
    sources, targets, weights = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    if node is not None:
        own = graph.number(node)
        into, out = graph.inputs(node), graph.outputs(node)
        if links in ("inputs", "both"):
            found = np.flatnonzero(into)
            sources, weights = np.append(sources, found), np.append(weights, into[found])
            targets = np.append(targets, np.full(len(found), own))
        if links in ("outputs", "both"):
            found = np.flatnonzero(out)
            targets, weights = np.append(targets, graph.rows[found]), np.append(weights, out[found])
            sources = np.append(sources, np.full(len(found), own))
    drawn = view.shown[sources] & view.shown[targets]
    sources, targets, weights = sources[drawn], targets[drawn], weights[drawn]
    steps = strength_steps(np.abs(weights))
    for sign, name, colour in ((1, "raises", POSITIVE), (-1, "lowers", NEGATIVE)):
        for step, (_, width, opacity) in enumerate(STEPS):
            chosen = steps[step][np.sign(weights[steps[step]]) == sign]
            traces[f"{name} {step}"] = {
                **segments(view.placement, sources[chosen], targets[chosen]),
                "line": {"color": colour, "width": width},
                "opacity": opacity,
            }
    return traces


def path_traces(view: GraphView, paths: Sequence[Path]) -> dict[str, Trace]:
    """Highlighted paths: each edge thick, coloured by the sign of its path."""
    traces: dict[str, Trace] = {}
    for sign, name, colour in ((1, "path raises", POSITIVE), (-1, "path lowers", NEGATIVE)):
        numbers = [[view.graph.number(n) for n in p.nodes] for p in paths if p.sign == sign]
        sources = np.array([n for chain in numbers for n in chain[:-1]], dtype=np.int64)
        targets = np.array([n for chain in numbers for n in chain[1:]], dtype=np.int64)
        traces[name] = {
            **segments(view.placement, sources, targets),
            "line": {"color": colour, "width": 5},
            "opacity": 0.55,
        }
    return traces


def _ring(
    view: GraphView, nodes: Collection[Node], extra: float, colour: str, width: float
) -> Trace:
    numbers = [view.graph.number(n) for n in nodes if n in view.graph]
    numbers = [n for n in numbers if view.shown[n]]
    return {
        "x": coordinates(view.placement.x[numbers]),
        "y": coordinates(view.placement.y[numbers]),
        "mode": "markers",
        "marker": {
            "symbol": "circle-open",
            "size": (view.sizes()[numbers] + extra).tolist(),
            "color": GREY if colour == "#000000" else colour,
            "line": {"width": width},
        },
    }


def pinned_trace(view: GraphView, pinned: Collection[Node]) -> dict[str, Trace]:
    """A thin ring around every pinned node."""
    return {"pinned": _ring(view, pinned, 5.0, GREY, 1.0)}


def switched_trace(view: GraphView, switched: Collection[Node]) -> dict[str, Trace]:
    """A cross over every node that a switch holds at another value."""
    trace = _ring(view, switched, 4.0, NEGATIVE, 2.0)
    trace["marker"]["symbol"] = "x-thin"
    trace["marker"]["line"] = {"width": 2.0, "color": NEGATIVE}
    return {"switched": trace}


def node_traces(
    view: GraphView,
    *,
    labels: Labels = NO_LABELS,
    supernodes: Sequence[Supernode] = (),
    notes: Labels = NO_LABELS,
) -> dict[str, Trace]:
    """The nodes, one trace a kind, with what hovering says.

    Args:
        view: What is drawn.
        labels: Labels of features by (layer, index).
        supernodes: Groups of features, each in its colour.
        notes: A further line for the hover of a feature, by (layer, index).
    """
    blocks = view.graph.blocks
    colours = [GREY] * view.graph.n_nodes
    for place_, supernode in enumerate(supernodes):
        for feature in supernode.features:
            if feature in view.graph:
                colours[view.graph.number(feature)] = hue(place_)
    kinds = {
        "features": (blocks.features, "circle"),
        "errors": (blocks.errors, "diamond"),
        "tokens": (blocks.tokens, "square"),
        "outputs": (blocks.targets, "square"),
    }
    sizes, opacities = view.sizes(), view.opacities()
    traces: dict[str, Trace] = {}
    for name, (block, symbol) in kinds.items():
        numbers = view.numbers[(view.numbers >= block.start) & (view.numbers < block.stop)]
        traces[name] = {
            "x": coordinates(view.placement.x[numbers]),
            "y": coordinates(view.placement.y[numbers]),
            "mode": "markers",
            "customdata": numbers.tolist(),
            "hovertext": [_hover(view, int(n), labels, notes) for n in numbers],
            "hoverinfo": "text",
            "marker": {
                "symbol": symbol,
                "size": sizes[numbers].tolist(),
                "opacity": opacities[numbers].tolist(),
                "color": [colours[n] for n in numbers],
                "line": {"width": 0},
            },
        }
    return traces


def _hover(view: GraphView, at: int, labels: Labels, notes: Labels) -> str:
    graph = view.graph
    node = graph.nodes[at]
    lines = [
        f"<b>{plotly_text(shorten(node_name(graph, node, labels), 60))}</b>",
        plotly_text(node_place(graph, node)),
    ]
    if isinstance(node, Feature):
        lines.append(f"feature {node.index}, activation {number(float(graph.activations[at]))}")
    if isinstance(node, Feature | ErrorNode):
        lines.append(f"influence {percent(float(view.influence[at]))}")
    if isinstance(node, Feature) and (note := notes.get((node.layer, node.index))):
        lines.append(plotly_text(shorten(note, 80)))
    return "<br>".join(lines)


def _label_trace(
    view: GraphView, selected: Node | None, labels: Labels, supernodes: Sequence[Supernode]
) -> Trace:
    outputs = view.graph.blocks.targets
    sizes = np.maximum(view.sizes() + 3, 12)
    if selected is not None:
        sizes[view.graph.number(selected)] += RING
    placed = [
        Label(n, _output_text(view.graph, n - outputs.start), "top center")
        for n in view.numbers[view.numbers >= outputs.start].tolist()
    ]
    wanted = _wanted_labels(view, selected, labels, supernodes)
    drawn = view.numbers.tolist()
    taken = drawn if len(drawn) <= CROWD else [n for n, _ in wanted]
    placed += fit_labels(view.placement, wanted, taken=taken, sizes=sizes)
    numbers = [label.number for label in placed]
    return {
        "x": coordinates(view.placement.x[numbers]),
        "y": coordinates(view.placement.y[numbers]),
        "mode": "markers+text",
        "marker": {"size": sizes[numbers].tolist(), "opacity": 0},
        "text": [plotly_text(label.text) for label in placed],
        "textposition": [label.side for label in placed],
        "textfont": {"size": SMALL, "color": GREY, "family": FONT},
        "cliponaxis": False,
    }


def _output_text(graph: AttributionGraph, index: int) -> str:
    share = percent(float(graph.target_probabilities[index]))
    return f"{shorten(token_text(graph.targets[index]), TOKEN_LENGTH)} {share}"


def _wanted_labels(
    view: GraphView, selected: Node | None, labels: Labels, supernodes: Sequence[Supernode]
) -> list[tuple[int, str]]:
    """Features by importance: the selected one, one of each supernode, then by influence."""
    graph = view.graph
    ranked = sorted(
        (n for n in view.numbers.tolist() if n < graph.blocks.features.stop),
        key=lambda n: -float(view.influence[n]),
    )
    group_of = {graph.number(f): s for s in supernodes for f in s.features if f in graph}
    first = [graph.number(selected)] if isinstance(selected, Feature) else []
    wanted: list[tuple[int, str]] = []
    said: set[tuple[object, ...]] = set()
    for at in [*first, *ranked[:60]]:
        node = graph.nodes[at]
        assert isinstance(node, Feature)
        group = group_of.get(at)
        text = group.name if group else labels.get((node.layer, node.index), "")
        # A supernode is named once, at its strongest feature; neighbours of one name share it.
        key = (group,) if group else (text, node.layer, node.position)
        if text and key not in said:
            said.add(key)
            wanted.append((at, shorten(text, LABEL_LENGTH)))
    return wanted
