"""Figures of heads and of evidence: what stands where, and that texts stay texts."""

from __future__ import annotations

import numpy as np
import pytest
from made import CAPITAL, HOSTILE, LABELS, SAY, TEXAS, hostile_graph, hostile_labels, small_graph

from circuit_nb.figures.evidence import (
    combinations_figure,
    faithfulness_figure,
    stability_figure,
    swaps_figure,
    sweep_figure,
    verify_figure,
)
from circuit_nb.figures.heads import heads_figure, looking_figure
from circuit_nb.figures.style import NEGATIVE, POSITIVE
from circuit_nb.graph import ErrorNode, TokenNode


def test_heads_are_drawn_from_the_lowest_block_up() -> None:
    flows = np.array([[0.0, 1.0, -2.0], [0.5, 0.0, 0.0]])
    figure = heads_figure(flows, np.array([3.0, -0.25]))
    cells, past = figure.data
    assert np.array(cells.z).tolist() == flows[::-1].tolist()
    assert (cells.zmin, cells.zmax) == (-2, 2)
    assert list(figure.layout.yaxis.ticktext) == ["1", "0"]
    assert list(past.text) == ["−0.25", "+3"]
    assert cells.hovertext[1][2] == "head 0.2: −2"
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first row on top


def test_pairs_are_named_and_written() -> None:
    graph = small_graph()
    pairs = np.array([[2.0, 0.0, -1.0], [0.001, 0.5, 0.0], [0.0, 0.0, 0.25]])
    figure = looking_figure(graph, [CAPITAL], [TEXAS], pairs, LABELS)
    cells, numbers = figure.data
    assert list(figure.layout.yaxis.ticktext) == ["capital @ capital", "all others", "biases"]
    assert list(figure.layout.xaxis.ticktext) == ["Texas @ Dallas", "all others", "biases"]
    assert list(numbers.text) == ["+2", "−1", "+0.5", "+0.25"]
    assert list(numbers.textfont.color)[:2] == [POSITIVE, NEGATIVE]
    assert "asked: capital · L0 #3" in cells.hovertext[0][0]


def test_predicted_and_measured_share_their_scale() -> None:
    figure = verify_figure(np.array([1.0, -3.0]), np.array([0.5, 2.0]))
    assert figure.layout.xaxis.range == figure.layout.yaxis.range
    assert list(figure.data[1].y) == [0.5, 2.0]


def test_the_curve_begins_at_the_first_feature() -> None:
    sizes, values = np.array([0, 0.01, 1.0]), np.array([0, 0.5, 1.0])
    flat = np.zeros(3)
    figure = faithfulness_figure(
        sizes=sizes,
        values=values,
        random=(flat, flat - 0.1, flat + 0.2),
        circuit=(0.01, 0.9),
        control=(0.05, 0.0, 0.2),
    )
    named = {trace.name: trace for trace in figure.data if trace.name}
    assert list(named["the most influential"].x) == [0.01, 1.0]
    assert list(named["this circuit"].y) == [0.9]
    error = named["random circuits"].error_y
    assert (list(error.array), list(error.arrayminus)) == ([pytest.approx(0.15)], [0.05])


def test_a_sweep_is_drawn_in_order() -> None:
    figure = sweep_figure(
        np.array([2.0, -1.0]), np.array([[0.9, 0.1], [0.2, 0.8]]), [" a", " b"], "Texas"
    )
    assert [list(trace.x) for trace in figure.data] == [[-1, 2], [-1, 2]]
    assert list(figure.data[0].y) == [0.2, 0.9]


def test_texts_stay_texts() -> None:
    graph, labels = hostile_graph(), hostile_labels()
    two, one = np.ones((2, 2)), np.ones((3, 3))
    names = list(HOSTILE[:2])
    figures = [
        looking_figure(graph, [SAY], [TokenNode(1)], one, labels),
        looking_figure(graph, [TEXAS], [ErrorNode(0, 2)], one, labels),
        sweep_figure(np.array([0.0, 1.0]), two, names, HOSTILE[0]),
        combinations_figure(names, np.ones(2), two),
        swaps_figure(names, np.array([names, names]), names, two),
        stability_figure(names, two, 5),
    ]
    for figure in figures:
        text = str(figure.to_plotly_json())
        assert "<script" not in text and "<img" not in text and "<a href" not in text
        assert "&lt;" in text
