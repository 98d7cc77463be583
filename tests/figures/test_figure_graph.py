from __future__ import annotations

import html
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from made import (
    CAPITAL,
    DIMMER,
    HOSTILE,
    LABELS,
    OTHER,
    SAY,
    TEXAS,
    crowd,
    hostile_graph,
    hostile_labels,
    small_graph,
)

from circuit_nb import figures
from circuit_nb.analysis import paths
from circuit_nb.figures.graph import (
    BACKGROUND_EDGES,
    ORDER,
    background_traces,
    path_traces,
    selection_traces,
)
from circuit_nb.figures.style import NEGATIVE, POSITIVE, hue
from circuit_nb.figures.view import GraphView, Measures
from circuit_nb.graph import ErrorNode, Supernode, TargetNode, TokenNode


def trace(figure: go.Figure, name: str) -> go.Scatter:
    return figure.data[ORDER.index(name)]


def segments(traces: dict, name: str) -> int:
    return list(traces[name]["x"]).count(None)


def test_every_kind_of_node_has_its_shape() -> None:
    figure = figures.graph_figure(small_graph(), kept=1.0)
    shapes = {
        n: trace(figure, n).marker.symbol for n in ("features", "errors", "tokens", "outputs")
    }
    assert shapes == {
        "features": "circle",
        "errors": "diamond",
        "tokens": "square",
        "outputs": "square",
    }
    assert len(trace(figure, "features").x) == 5
    assert len(trace(figure, "errors").x) == 18
    assert len(trace(figure, "tokens").x) == 6
    assert len(trace(figure, "outputs").x) == 2


def test_size_and_opacity_follow_influence() -> None:
    graph = small_graph()
    drawn = trace(figures.graph_figure(graph, kept=1.0), "features")
    influence = Measures(graph).influence[graph.blocks.features]
    assert (np.argsort(drawn.marker.size) == np.argsort(influence)).all()
    assert drawn.marker.opacity[int(influence.argmax())] == 1.0


def test_errors_can_be_hidden_and_pruning_drops_nodes() -> None:
    assert len(trace(figures.graph_figure(small_graph(), kept=1.0, errors=False), "errors").x) == 0
    few = trace(figures.graph_figure(small_graph(), kept=0.5), "features")
    assert 0 < len(few.x) < 5


def test_the_selected_nodes_edges_are_all_there_by_sign() -> None:
    view = GraphView(Measures(small_graph()), kept=1.0)
    traces = selection_traces(view, SAY)
    raises = sum(segments(traces, f"raises {s}") for s in range(3))
    lowers = sum(segments(traces, f"lowers {s}") for s in range(3))
    # Five inputs, one of them negative; two outputs, one of them negative.
    assert (raises, lowers) == (5, 2)
    assert traces["raises 0"]["line"]["color"] == POSITIVE
    assert traces["lowers 0"]["line"]["color"] == NEGATIVE
    inputs = selection_traces(view, SAY, links="inputs")
    assert sum(segments(inputs, f"{s} {i}") for s in ("raises", "lowers") for i in range(3)) == 5
    outputs = selection_traces(view, SAY, links="outputs")
    assert sum(segments(outputs, f"{s} {i}") for s in ("raises", "lowers") for i in range(3)) == 2


@pytest.mark.parametrize("node", [TokenNode(4), TargetNode(0), ErrorNode(0, 4)])
def test_ends_can_be_selected_too(node) -> None:
    view = GraphView(Measures(small_graph()), kept=1.0)
    traces = selection_traces(view, node)
    assert len(traces["selected"]["x"]) == 1
    assert sum(segments(traces, f"{s} {i}") for s in ("raises", "lowers") for i in range(3)) >= 1


def test_background_edges_are_the_strongest_few_hundred() -> None:
    view = GraphView(Measures(crowd()), kept=1.0)
    traces = background_traces(view)
    assert sum(segments(traces, f"edges {s}") for s in range(3)) == BACKGROUND_EDGES


def test_a_selection_changes_only_its_own_small_traces() -> None:
    view = GraphView(Measures(crowd()), kept=1.0)
    assert set(selection_traces(view, None)) & set(background_traces(view)) == set()
    assert {"features", "errors", "tokens", "outputs"} & set(selection_traces(view, None)) == set()


def test_supernodes_have_colours_and_one_label() -> None:
    supernodes = [Supernode("state", [TEXAS, OTHER]), Supernode("asked", [CAPITAL])]
    graph = small_graph()
    figure = figures.graph_figure(graph, labels=LABELS, supernodes=supernodes, kept=0.1)
    drawn = trace(figure, "features")
    colours = dict(zip(drawn.customdata, drawn.marker.color, strict=True))
    assert colours[graph.number(TEXAS)] == colours[graph.number(OTHER)] == hue(0)
    assert colours[graph.number(CAPITAL)] == hue(1)
    assert {"state", "asked"} <= set(trace(figure, "labels").text)


def test_paths_are_drawn_edge_by_edge() -> None:
    graph = small_graph()
    found = paths(graph, TokenNode(4), TargetNode(0), 1)
    traces = path_traces(GraphView(Measures(graph), kept=1.0), found)
    assert segments(traces, "path raises") == len(found[0].nodes) - 1
    assert segments(traces, "path lowers") == 0


def test_a_node_that_is_not_in_the_graph_is_not_drawn() -> None:
    gone = type(DIMMER)(2, 1, 1)
    figure = figures.graph_figure(small_graph(), supernodes=[Supernode("gone", [gone])])
    assert "gone" not in trace(figure, "labels").text


def test_hover_and_labels_show_foreign_text_as_it_is() -> None:
    figure = figures.graph_figure(hostile_graph(), labels=hostile_labels(), kept=1.0)
    texts = [
        *(t for d in figure.data for t in (d.hovertext or ())),
        *(t for d in figure.data for t in (d.text or ())),
        *figure.layout.xaxis.ticktext,
    ]
    own = {"b", "br", "/b"}
    for text in texts:
        assert {t.strip("<>") for t in re.findall(r"<[^<>]*>", text)} <= own
        assert "$" not in text
    spoken = html.unescape(" ".join(t for d in figure.data for t in (d.hovertext or ())))
    assert all(h[:55] in spoken for h in HOSTILE)


def test_figures_change_no_template_and_show_nothing() -> None:
    import plotly.io

    before = plotly.io.templates.default
    figures.graph_figure(small_graph())
    assert plotly.io.templates.default == before


def test_a_graph_with_no_features_is_drawn() -> None:
    graph = small_graph()
    from dataclasses import replace

    empty = replace(
        graph,
        features=np.zeros((0, 3)),
        activations=np.zeros(0),
        weights=graph.weights[5:, 5:],
    )
    assert len(trace(figures.graph_figure(empty, kept=1.0), "features").x) == 0
