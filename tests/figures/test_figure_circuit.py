"""The circuit's layers, arrows and the shares written beside them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import LABELS, OTHER, SAY, TEXAS, small_graph
from real import NAMES, real_graph

from circuit_nb.evidence import propose
from circuit_nb.figures.arrows import ALONG, HALF, Box, arrows, samples
from circuit_nb.figures.circuit import MOST, ONLY, circuit, strongest
from circuit_nb.figures.layering import BETWEEN, GAP, layered
from circuit_nb.figures.measures import Measures
from circuit_nb.figures.naming import told_name
from circuit_nb.figures.style import SMALL, text_width
from circuit_nb.graph import TargetNode, TokenNode

counts = st.integers(2, 9)


@settings(max_examples=60, deadline=None)
@given(st.data(), counts)
def test_layers_keep_boxes_apart_and_arrows_forward(data: st.DataObject, count: int) -> None:
    levels = tuple(data.draw(st.lists(st.integers(0, 6), min_size=count, max_size=count)))
    ends = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    edges = tuple(dict.fromkeys(data.draw(st.lists(ends, max_size=14))))
    sizes = tuple((40.0 + 7 * (i % 3), 20.0 + 5 * (i % 2)) for i in range(count))
    placed = layered(tuple(map(float, levels)), tuple(map(float, range(count))), sizes, edges)
    for i, j in itertools.combinations(range(count), 2):
        along = abs(placed.along[i] - placed.along[j]) - (sizes[i][0] + sizes[j][0]) / 2
        across = abs(placed.across[i] - placed.across[j]) - (sizes[i][1] + sizes[j][1]) / 2
        assert along > 0 or across > GAP - 1e-6
    for source, target in edges:
        if levels[source] < levels[target]:
            assert placed.along[source] < placed.along[target]
            passed = [a for a, _ in placed.routes[source, target]]
            assert passed == sorted(passed)
    for i, (along, across) in enumerate(sizes):
        assert along / 2 - 1e-6 <= placed.along[i] <= placed.depth - along / 2 + 1e-6
        assert across / 2 - 1e-6 <= placed.across[i] <= placed.breadth - across / 2 + 1e-6


def test_a_chain_stands_in_a_row_and_two_that_cross_change_places() -> None:
    size = (40.0, 20.0)
    chain = layered((0.0, 1.0, 2.0), (0.0, 0.0, 0.0), (size,) * 3, ((0, 1), (1, 2)))
    assert len(set(chain.across)) == 1
    assert np.diff(chain.along) == pytest.approx([size[0] + BETWEEN] * 2)
    crossed = layered((0.0, 0.0, 1.0, 1.0), (0.0, 1.0, 0.0, 1.0), (size,) * 4, ((0, 3), (1, 2)))
    upper = crossed.across[0] < crossed.across[1]
    assert (crossed.across[3] < crossed.across[2]) == upper


def box(number: int, x: float, y: float) -> Box:
    return Box(f"g{number}", ("a",), "a", x, y, 60, 30, "#767676", "group", "", False)


def test_a_share_stands_beside_its_arrow_and_on_nothing_else() -> None:
    boxes = [box(0, 40, 40), box(1, 300, 40), box(2, 40, 160), box(3, 300, 160)]
    shares = {(0, 1): 0.9, (0, 3): -0.3, (2, 1): 0.2, (2, 3): 0.05}
    found = arrows(boxes, shares, {}, 200.0)
    assert [(a.source, a.target) for a in found] == [*shares]
    for arrow in found:
        assert arrow.told is not None
        x, y = arrow.told
        half = text_width(arrow.text, SMALL) / 2
        for place in samples(arrow.points, count=200):
            inside = abs(place[0] - x) < half - 1 and abs(place[1] - y) < HALF - 1
            assert not inside, (arrow.text, place)
        assert all(
            abs(x - b.x) > b.width / 2 + half or abs(y - b.y) > b.height / 2 + HALF for b in boxes
        )
    for one, other in itertools.combinations(found, 2):
        assert one.told is not None and other.told is not None
        assert math.dist(one.told, other.told) > 2 * HALF
    assert len(ALONG) == len(set(ALONG))


def test_a_small_share_is_not_written_as_none() -> None:
    boxes = [box(0, 40, 40), box(1, 300, 40)]
    texts = [arrows(boxes, {(0, 1): s}, {}, 80.0)[0].text for s in (0.0042, -0.0021, 0.0149)]
    assert texts == ["0.4 %", "−0.2 %", "1 %"]


def test_no_share_is_written_where_there_is_no_room() -> None:
    near = [box(0, 40, 40), box(1, 106, 40)]
    assert [a.told for a in arrows(near, {(0, 1): 0.5}, {}, 80.0)] == [None]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 20), st.integers(0, 1000))
def test_a_dozen_arrows_and_none_is_left_without_its_strongest(count: int, seed: int) -> None:
    shares = np.random.default_rng(seed).normal(size=(count, count)) * 0.2
    drawn = strongest(shares)
    assert len(set(drawn)) == len(drawn) <= max(MOST, count)
    strength = np.abs(shares)
    assert [strength[t, s] for s, t in drawn] == sorted(
        (strength[t, s] for s, t in drawn), reverse=True
    )
    for source in range(count):
        target = int(strength[:, source].argmax())
        if strength[target, source] >= ONLY:
            assert (source, target) in drawn


def test_a_feature_without_a_label_is_called_by_what_it_does_in_the_circuit_too() -> None:
    graph = small_graph()
    groups = [TokenNode(4), TEXAS, OTHER, SAY, TargetNode(0)]
    measures = Measures(graph)
    assert told_name(measures, TEXAS, LABELS) == LABELS[TEXAS.layer, TEXAS.index]
    unnamed = told_name(measures, SAY)
    on_is = {(SAY.layer, SAY.index): "fires on is"}
    assert unnamed.startswith("→") and told_name(measures, SAY, on_is) == f"is {unnamed}"
    assert unnamed.startswith("→ ")
    drawn = circuit(graph, groups)
    assert " ".join(drawn.boxes[3].name) == unnamed
    assert drawn.boxes[4].name == (told_name(measures, TargetNode(0)),)


def test_a_name_that_has_room_is_written_out_at_every_width() -> None:
    groups = [TokenNode(4), TEXAS, SAY, TargetNode(0)]
    labels = {**LABELS, (TEXAS.layer, TEXAS.index): "Texas locations/legal contexts"}
    for tenths in range(4500, 9000, 7):
        drawn = circuit(small_graph(), groups, labels=labels, width=tenths / 10, height=230.0)
        assert drawn.boxes[1].name == ("Texas locations/legal", "contexts"), tenths / 10


@pytest.mark.parametrize("name", NAMES or ("dallas-clt",))
def test_shares_lie_on_no_box_and_no_other_share_on_real_graphs(name: str) -> None:
    graph, labels = real_graph(name)
    groups = [*propose(graph, labels), TargetNode(0)]
    for width in (480.0, 720.0, 1100.0):
        drawn = circuit(graph, groups, labels=labels, width=width, height=230.0)
        told = [(a.told, text_width(a.text, SMALL) / 2) for a in drawn.arrows if a.told is not None]
        assert len(told) >= len(drawn.arrows) // 2
        for (x, y), half in told:
            assert HALF <= y <= drawn.height - HALF
            for b in drawn.boxes:
                assert abs(x - b.x) > b.width / 2 + half or abs(y - b.y) > b.height / 2 + HALF, (
                    name,
                    width,
                    b.name,
                )
        for ((x, y), a), ((u, v), b) in itertools.combinations(told, 2):
            assert abs(x - u) > a + b or abs(y - v) > 2 * HALF
