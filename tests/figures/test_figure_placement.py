from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import crowd, small_graph

from circuit_nb.figures.placement import place
from circuit_nb.figures.style import text_width, two_lines
from circuit_nb.figures.tracks import LANE, SLOT, Track, grow, stretch
from circuit_nb.figures.words import Wish, Words


def everything(graph, **size):
    return place(graph, np.ones(graph.n_nodes, dtype=bool), **size)


def column_of(placement, position: int):
    return next(band for band in placement.columns if position in band.keys)


def long_prompt(tokens: int):
    """The small graph after many tokens at which nothing happens."""
    graph = small_graph()
    more = tokens - 6
    shift = np.where(graph.features[:, 1] > 0, more, 0)
    features = graph.features + np.stack([0 * shift, shift, 0 * shift], axis=1)
    weights = np.zeros((7, 5 + 18 + tokens), dtype=np.float32)
    weights[:, :24] = graph.weights[:, :24]
    weights[:, 24 + more :] = graph.weights[:, 24:]
    return replace(
        graph,
        tokens=("<bos>", *[" filler"] * more, *graph.tokens[1:]),
        token_ids=np.arange(tokens),
        features=features,
        errors=graph.errors,
        weights=weights,
    )


def test_tokens_lie_below_layers_and_layers_below_outputs() -> None:
    graph = small_graph()
    y = everything(graph).y
    blocks = graph.blocks
    assert len(set(y[blocks.tokens])) == 1
    by_layer = [y[i] for i in np.argsort(graph.features[:, 0], kind="stable")]
    assert by_layer == sorted(by_layer)
    assert y[blocks.targets].min() > y[blocks.features].max()
    assert y[blocks.tokens].max() < y[blocks.features].min()


def test_every_node_is_in_the_column_of_its_token() -> None:
    graph = crowd(300, 1000)
    placement = everything(graph)
    for number, (_, position, _) in enumerate(graph.features.tolist()):
        if not np.isnan(placement.x[number]):
            band = column_of(placement, position)
            assert band.low <= placement.x[number] <= band.high


def test_columns_share_the_width_by_what_they_hold() -> None:
    graph = small_graph()
    placement = everything(graph)
    widths = {band.keys[0]: band.high - band.low for band in placement.columns}
    # Dallas and the last token hold features in several layers.
    assert widths[4] > widths[3]
    assert widths[5] > widths[1]
    assert sum(widths.values()) == placement.width


@given(st.integers(400, 2000), st.integers(200, 900), st.integers(0, 50))
@settings(deadline=None, max_examples=25)
def test_whatever_the_size_every_node_is_inside_or_in_a_mark(
    width: int, height: int, seed: int
) -> None:
    graph = crowd(2000, 500, seed=seed)
    placement = everything(graph, width=width, height=height)
    drawn = ~np.isnan(placement.x)
    assert (placement.x[drawn] >= 0).all() and (placement.x[drawn] <= placement.width).all()
    assert (placement.y[drawn] >= 0).all() and (placement.y[drawn] <= placement.height).all()
    assert placement.width <= width + 1e-6
    gathered = [n for mark in placement.marks for n in mark.numbers]
    assert len(gathered) == len(set(gathered))
    assert sorted([*gathered, *np.flatnonzero(drawn).tolist()]) == list(range(graph.n_nodes))
    assert all(
        0 <= m.x <= placement.width and 0 <= m.y <= placement.height for m in placement.marks
    )


def test_a_crowded_cell_shows_its_strongest_and_opens() -> None:
    graph = crowd(2000, 500)
    strength = np.random.default_rng(1).random(graph.n_nodes).astype(np.float32)
    every = np.ones(graph.n_nodes, dtype=bool)
    placement = place(graph, every, strength=strength)
    mark = max(
        (m for m in placement.marks if 0 < m.place[0] <= graph.n_layers),
        key=lambda m: len(m.numbers),
    )
    layer, position = mark.place[0] - 1, mark.place[1]
    inside = [
        n
        for n, (lay, pos, _) in enumerate(graph.features.tolist())
        if (lay, pos) == (layer, position)
    ]
    shown = [n for n in inside if n not in mark.numbers]
    hidden = [n for n in mark.numbers if n < 2000]
    assert min(strength[shown], default=1) >= max(strength[hidden])
    opened = place(graph, every, strength=strength, opened=[mark.place])
    assert mark.place not in [m.place for m in opened.marks]
    assert not np.isnan(opened.x[list(mark.numbers)]).any()
    assert opened.width == pytest.approx(placement.width)


def test_layers_that_hold_nothing_are_folded() -> None:
    graph = crowd(200, 300)
    shown = np.ones(graph.n_nodes, dtype=bool)
    layers = np.concatenate([graph.features[:, 0], graph.errors[:, 0]])
    shown[: len(layers)] = (layers < 3) | (layers == 20)
    rows = {row.keys: row.high - row.low for row in place(graph, shown).rows}
    assert tuple(range(4, 21)) in rows
    assert rows[tuple(range(4, 21))] < 20 < rows[1,]


def test_a_long_prompt_fits_and_its_silent_tokens_open() -> None:
    graph = long_prompt(600)
    shown = np.ones(graph.n_nodes, dtype=bool)
    shown[graph.blocks.errors] = False
    placement = place(graph, shown)
    assert placement.width <= 800
    mark = max(placement.marks, key=lambda m: len(m.numbers))
    assert mark.place[0] == 0 and len(mark.numbers) > 500
    assert not np.isnan(placement.x[graph.blocks.features]).any()
    few = long_prompt(40)
    shown = np.ones(few.n_nodes, dtype=bool)
    folded = place(few, shown, width=500)
    assert folded.marks
    opened = place(few, shown, width=500, opened=[folded.marks[0].place])
    assert len(opened.columns) > len(folded.columns)
    assert opened.width <= 500 + 1e-6


def test_outputs_that_have_no_room_are_one_mark_that_opens() -> None:
    graph = small_graph()
    many = replace(
        graph,
        targets=tuple(f" answer {i}" for i in range(12)),
        target_ids=np.arange(12),
        target_probabilities=np.linspace(0.3, 0.01, 12),
        weights=np.concatenate([graph.weights[:5], np.repeat(graph.weights[5:6], 12, axis=0)]),
    )
    placement = everything(many)
    mark = next(m for m in placement.marks if m.place[0] == 4)
    drawn = np.flatnonzero(~np.isnan(placement.x[many.blocks.targets]))
    assert drawn.tolist() == list(range(12 - len(mark.numbers)))
    opened = everything(many, opened=[mark.place])
    assert not np.isnan(opened.x).any()
    assert not opened.marks


def test_hidden_nodes_have_no_place() -> None:
    graph = small_graph()
    shown = np.zeros(graph.n_nodes, dtype=bool)
    shown[0] = True
    placement = place(graph, shown)
    assert np.isnan(placement.x[1:]).all()
    assert np.isfinite(placement.x[0])


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 3), st.integers(0, 4)), st.integers(1, 60), max_size=20
    ),
    st.floats(0, 600),
    st.floats(0, 300),
)
def test_tracks_grow_within_their_budget(counts, across: float, up: float) -> None:
    rows = [Track((i,), LANE) for i in range(4)]
    columns = [Track((i,), SLOT) for i in range(5)]
    grow(counts, rows, columns, (across, up))
    assert sum(t.least for t in columns) <= 5 * SLOT + across + 1e-6
    assert sum(t.least for t in rows) <= 4 * LANE + up + 1e-6
    assert all(t.places * SLOT <= t.least + 1e-6 for t in columns)


def test_left_over_room_goes_by_demand_up_to_a_limit() -> None:
    tracks = [Track((0,), 10, demand=1), Track((1,), 10, demand=3)]
    assert stretch(tracks, 60) == 60
    assert [t.size for t in tracks] == [20, 40]
    stretch(tracks, 100, most=20)
    assert [t.size for t in tracks] == [50, 50]
    assert stretch(tracks, 5) == 20


@given(st.integers(0, 1000), st.integers(1, 60))
@settings(deadline=None, max_examples=30)
def test_words_never_overlap_nor_leave_the_picture(seed: int, length: int) -> None:
    graph = crowd(150, 300, seed=seed)
    placement = everything(graph)
    sizes = np.full(graph.n_nodes, 9.0)
    words = Words(placement.width, placement.height, placement.x, placement.y, sizes)
    text = ("word " * 20)[:length].strip() or "x"
    placed = [words.fit(Wish(n, text)) for n in range(60)]
    boxes = np.array([w.box for w in words.words]).reshape(-1, 4)
    assert len(boxes) == sum(w is not None for w in placed)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= placement.width).all() and (boxes[:, 3] <= placement.height).all()
    for i, a in enumerate(boxes):
        b = boxes[i + 1 :]
        apart = (a[2] <= b[:, 0]) | (b[:, 2] <= a[0]) | (a[3] <= b[:, 1]) | (b[:, 3] <= a[1])
        assert apart.all()


def test_a_word_stands_beside_its_node_or_has_a_line_to_it() -> None:
    x, y = np.array([100.0, 112.0]), np.array([50.0, 50.0])
    words = Words(300, 100, x, y, np.array([8.0, 8.0]))
    beside = words.fit(Wish(1, "here"))
    assert beside is not None and beside.leader is None and beside.side == "right"
    words.block([(0, 0, 99, 100), (101, 0, 180, 100), (0, 0, 300, 44), (0, 56, 300, 100)])
    far = words.fit(Wish(0, "far"))
    assert far is None or far.leader is not None


def test_long_words_are_broken_in_two_and_cut_only_then() -> None:
    assert two_lines("short", 20) == "short"
    assert two_lines("Texas locations/legal contexts", 20) == "Texas locations/\nlegal contexts"
    broken = two_lines("words associated with academic or scientific writing", 20)
    first, second = broken.split("\n")
    assert max(len(first), len(second)) <= 20 and second.endswith("…")
    assert two_lines("x" * 50, 20) == "x" * 19 + "…"


def test_a_text_is_as_wide_as_its_letters() -> None:
    assert text_width("iiii", 10) < text_width("eeee", 10) < text_width("WWWW", 10)
    assert text_width("漢字", 10) > 20
    assert text_width("Austin", 10, bold=True) > text_width("Austin", 10)
