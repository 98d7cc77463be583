from __future__ import annotations

import xml.etree.ElementTree as ET

import plotly.graph_objects as go
import pytest
from made import HOSTILE, SAY, TEXAS, card, hostile_graph, hostile_labels, small_graph

from circuit_nb import figures
from circuit_nb.figures.style import shorten
from circuit_nb.graph import Supernode, TargetNode, TokenNode

ALLOWED = {"svg", "g", "path", "rect", "circle", "text", "title"}


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def names(root: ET.Element) -> set[str]:
    return {e.tag.split("}")[1] for e in root.iter()}


def harmless(svg: str) -> None:
    root = parsed(svg)
    assert names(root) <= ALLOWED
    for element in root.iter():
        assert not any(a.startswith("on") or "href" in a for a in element.attrib)


def all_text(svg: str) -> str:
    return "\n".join(e.text or "" for e in parsed(svg).iter())


FIGURES = {
    "graph": lambda: figures.graph_figure(
        hostile_graph(), labels=hostile_labels(), selected=SAY, kept=1.0
    ),
    "connections": lambda: figures.connections_figure(
        hostile_graph(), SAY, labels=hostile_labels()
    ),
    "probabilities": lambda: figures.probability_figure(
        dict.fromkeys(HOSTILE, 0.2), dict.fromkeys(HOSTILE, 0.1)
    ),
    "effects": lambda: figures.effects_figure([(h, 1.0) for h in HOSTILE]),
    "subgraph": lambda: figures.subgraph_figure(
        hostile_graph(),
        [Supernode(HOSTILE[0], [TEXAS]), SAY, TokenNode(1), TargetNode(0)],
        labels=hostile_labels(),
        badges={SAY: HOSTILE[3]},
    ),
    "density": lambda: figures.density_figure(*card("x").histogram),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_becomes_harmless_well_formed_svg(name: str) -> None:
    harmless(figures.to_svg(FIGURES[name]()))


@pytest.mark.parametrize("name", ["graph", "connections", "probabilities", "effects", "subgraph"])
def test_foreign_text_is_shown_as_it_is(name: str) -> None:
    text = all_text(figures.to_svg(FIGURES[name]()))
    assert shorten(HOSTILE[0], 14)[:-1] in text


def test_every_node_edge_and_label_of_the_graph_is_there() -> None:
    figure = figures.graph_figure(small_graph(), labels={(2, 11): "say Austin"}, kept=1.0)
    root = parsed(figures.to_svg(figure))
    titles = [e.text for e in root.iter() if e.tag.endswith("title")]
    assert len(titles) == small_graph().n_nodes
    assert any("say Austin" in t for t in titles)
    assert "Austin 90 %" in all_text(figures.to_svg(figure))


def test_curves_rings_and_words_of_the_graph_are_drawn_where_plotly_draws_them() -> None:
    figure = figures.graph_figure(
        small_graph(), labels={(2, 11): "say Austin or another capital"}, kept=1.0
    )
    root = parsed(figures.to_svg(figure, width=868))
    curves = [e for e in root.iter() if e.tag.endswith("path") and "C" in e.attrib["d"]]
    assert curves
    rings = [e for e in root.iter() if e.tag.endswith("circle") and e.attrib["fill"] == "none"]
    answer = figure.data[2].x[0], figure.data[2].y[0]
    margin, height = figure.layout.margin, figure.layout.height
    x = margin.l + answer[0] / 1000 * (868 - margin.l - margin.r)
    y = height - margin.b - answer[1] / 1000 * (height - margin.t - margin.b)
    at = [(float(e.attrib["cx"]), float(e.attrib["cy"])) for e in rings]
    assert any(abs(a - x) < 0.2 and abs(b - y) < 0.2 for a, b in at)
    lines = [e for e in root.iter() if e.tag.endswith("text") and "say Austin" in (e.text or "")]
    assert lines[0].text == "say Austin or"


def test_bars_are_drawn_to_scale() -> None:
    svg = figures.to_svg(figures.probability_figure({"a": 0.8, "b": 0.4}))
    widths = [float(e.attrib["width"]) for e in parsed(svg).iter() if e.tag.endswith("rect")]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01)


def test_boxes_can_be_chosen_by_keyboard() -> None:
    figure = figures.subgraph_figure(small_graph(), [SAY, TEXAS])
    root = parsed(figures.to_svg(figure, keys=True))
    keyed = [e for e in root.iter() if "data-key" in e.attrib]
    assert [e.attrib["data-key"] for e in keyed] == ["g0", "g1"]
    assert all(e.attrib["tabindex"] == "0" for e in keyed)


def test_a_figure_and_its_plain_data_draw_the_same() -> None:
    figure = figures.subgraph_figure(small_graph(), [SAY, TEXAS])
    assert isinstance(figure, go.Figure)
    from circuit_nb.figures.subgraph import subgraph_spec

    assert figures.to_svg(figure) == figures.to_svg(subgraph_spec(small_graph(), [SAY, TEXAS]))
