from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from circuit_nb.figures.arrangement import arrange

boxes = st.lists(
    st.tuples(st.integers(0, 4), st.floats(0, 12), st.floats(60, 180)), min_size=1, max_size=12
)


@given(boxes, st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=12))
def test_boxes_of_a_row_never_overlap(drawn, pairs) -> None:
    rows, across, widths = (tuple(part) for part in zip(*drawn, strict=True))
    count = len(rows)
    edges = tuple((a, b) for a, b in pairs if a < count and b < count and rows[a] < rows[b])
    x = arrange(rows, across, widths, edges)
    for i, j in itertools.combinations(range(count), 2):
        if rows[i] == rows[j]:
            assert abs(x[i] - x[j]) >= (widths[i] + widths[j]) / 2 - 1e-6


def test_a_box_steps_aside_for_an_edge_that_would_run_through_it() -> None:
    rows, across, widths = (0, 1, 2), (0.0, 0.0, 0.0), (80.0, 80.0, 80.0)
    straight = arrange(rows, across, widths, ())
    aside = arrange(rows, across, widths, ((0, 1), (1, 2), (0, 2)))
    assert straight[0] == straight[1] == straight[2]
    low, middle, high = aside
    assert abs((low + high) / 2 - middle) > 40


def test_nothing_to_arrange() -> None:
    assert arrange((), (), (), ()) == ()
