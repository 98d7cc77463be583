from __future__ import annotations

import pytest
from made import CAPITAL, LABELS, SAY, TEXAS, small_graph

from circuit_nb import figures
from circuit_nb.figures.bars import connections
from circuit_nb.figures.style import NEGATIVE, POSITIVE
from circuit_nb.graph import TargetNode


def test_before_and_after_share_their_rows() -> None:
    figure = figures.probability_figure(
        {" Austin": 0.98, " Texas": 0.01}, {" Austin": 0.02, " Sacramento": 0.9}
    )
    before, after = figure.data
    assert list(figure.layout.yaxis.ticktext) == ["Austin", "Sacramento", "Texas"]
    assert list(before.x) == [0.98, 0.0, 0.01]
    assert list(after.x) == [0.02, 0.9, 0.0]
    assert list(after.text) == ["2 %", "90 %", "0 %"]


def test_negligible_tokens_are_left_out_but_never_all() -> None:
    many = {f" t{i}": 1e-5 for i in range(10)}
    assert len(figures.probability_figure(many).data[0].x) == 4
    assert len(figures.probability_figure({}).data[0].x) == 0


def test_effects_are_signed() -> None:
    figure = figures.effects_figure([(" Austin", 2.0)], [(" Texas", -1.0)])
    assert list(figure.data[0].marker.color) == [POSITIVE, NEGATIVE]
    assert list(figure.data[0].text) == ["+2", "−1"]


def test_connections_are_sorted_by_strength() -> None:
    graph = small_graph()
    found = connections(graph, SAY)
    assert [n for n, _ in found[:2]] == [TEXAS, type(TEXAS)(1, 4, 2)]
    assert [abs(w) for _, w in found] == sorted((abs(w) for _, w in found), reverse=True)
    assert connections(graph, CAPITAL, inputs=False)[0] == (SAY, pytest.approx(0.5))
    assert connections(graph, TargetNode(0), inputs=False) == []
    figure = figures.connections_figure(graph, SAY, labels=LABELS)
    assert figure.layout.yaxis.ticktext[0].startswith("Texas")


def test_histogram_bins_lie_between_their_bounds() -> None:
    figure = figures.density_figure([3, 1], [0.0, 2.0, 4.0])
    assert list(figure.data[0].x) == [1.0, 3.0]
    assert figure.layout.xaxis.ticktext == ("0", "4")
