from __future__ import annotations

import itertools

from made import CAPITAL, DIMMER, LABELS, OTHER, SAY, TEXAS, small_graph

from circuit_nb import figures
from circuit_nb.figures.style import NEGATIVE, POSITIVE
from circuit_nb.graph import Supernode, TargetNode, TokenNode

STATE = Supernode("state", [TEXAS, OTHER])
GROUPS = (STATE, CAPITAL, SAY, DIMMER, TokenNode(2), TokenNode(4), TargetNode(0))


def boxes(figure):
    return {s.name: s for s in figure.layout.shapes}


def test_tokens_are_at_the_left_and_the_answer_at_the_right() -> None:
    drawn = boxes(figures.subgraph_figure(small_graph(), GROUPS, labels=LABELS))
    middle = {name: (box.x0 + box.x1) / 2 for name, box in drawn.items()}
    assert middle["g4"] == middle["g5"] < middle["g1"] < middle["g2"] < middle["g6"]


def test_boxes_do_not_overlap_however_many() -> None:
    graph = small_graph()
    groups = [*GROUPS, *(TokenNode(p) for p in (1, 3, 5))]
    drawn = boxes(figures.subgraph_figure(graph, groups, labels=LABELS)).values()
    for a, b in itertools.combinations(drawn, 2):
        assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0


def test_edges_are_as_wide_as_the_share_and_coloured_by_sign() -> None:
    figure = figures.subgraph_figure(small_graph(), GROUPS)
    lines = [t for t in figure.data if t.mode == "lines"]
    assert {t.line.color for t in lines} == {POSITIVE, NEGATIVE}
    widths = [t.line.width for t in lines]
    assert widths == sorted(widths), "the strongest is drawn last, on top"
    assert widths[-1] > widths[0]


def test_fractions_badges_and_fading() -> None:
    figure = figures.subgraph_figure(
        small_graph(), GROUPS, fractions={STATE: 0.0, SAY: 0.28}, badges={STATE: "off"}
    )
    texts = [t for trace in figure.data for t in (trace.text or ())]
    # A switched box tells its setting, every other what is left of its activation.
    assert {"off", "28 %"} <= set(texts)
    assert "0 %" not in texts
    drawn = boxes(figure)
    assert drawn["g0"].opacity < drawn["g2"].opacity == 1.0


def test_an_unknown_fraction_is_not_shown() -> None:
    figure = figures.subgraph_figure(small_graph(), GROUPS, fractions={SAY: float("nan")})
    assert not any("%" in t and "nan" in t for d in figure.data for t in (d.text or ()))
    assert boxes(figure)["g2"].opacity == 1.0


def test_chosen_boxes_have_a_thick_border() -> None:
    drawn = boxes(figures.subgraph_figure(small_graph(), GROUPS, chosen=[SAY]))
    assert drawn["g2"].line.width > drawn["g1"].line.width
