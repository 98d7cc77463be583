from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from made import crowd, small_graph

from circuit_nb.figures.placement import _label_box, beside, fit_labels, place
from circuit_nb.figures.style import SMALL, text_width


def everything(graph):
    return place(graph, np.ones(graph.n_nodes, dtype=bool))


def test_tokens_lie_below_layers_and_layers_below_outputs() -> None:
    graph = small_graph()
    y = everything(graph).y
    blocks = graph.blocks
    assert (y[blocks.tokens] == 0).all()
    by_layer = [y[i] for i in np.argsort(graph.features[:, 0], kind="stable")]
    assert by_layer == sorted(by_layer)
    assert y[blocks.targets].min() > y[blocks.features].max()


def test_every_node_is_in_the_column_of_its_token() -> None:
    graph = crowd(300, 1000)
    placement = everything(graph)
    for number, (_, position, _) in enumerate(graph.features.tolist()):
        left, right = placement.columns[position]
        assert left <= placement.x[number] <= right


def test_columns_are_as_wide_as_their_crowd() -> None:
    graph = small_graph()
    left, right = everything(graph).columns[4]
    alone = everything(graph).columns[3]
    assert right - left >= alone[1] - alone[0]
    crowded = crowd(2000, 100)
    widths = [b - a for a, b in everything(crowded).columns]
    counts = np.bincount(crowded.features[:, 1], minlength=24)
    assert widths[int(counts.argmax())] > 60


def test_hidden_nodes_have_no_place() -> None:
    graph = small_graph()
    shown = np.zeros(graph.n_nodes, dtype=bool)
    shown[0] = True
    placement = place(graph, shown)
    assert np.isnan(placement.x[1:]).all()
    assert np.isfinite(placement.x[0])


@given(st.integers(0, 1000), st.integers(1, 24))
def test_labels_never_overlap_nor_leave_the_drawing(seed: int, length: int) -> None:
    graph = crowd(150, 300, seed=seed)
    placement = everything(graph)
    wanted = [(n, "x" * length) for n in range(60)]
    labels = fit_labels(placement, wanted, most=30)
    boxes = [
        _label_box(placement, label.number, text_width(label.text, SMALL), label.side, beside(13.0))
        for label in labels
    ]
    assert all(not a.meets(b) for a, b in itertools.combinations(boxes, 2))
    assert all(b.left >= 0 and b.right <= placement.width for b in boxes)
    assert labels, "nothing was labelled"
