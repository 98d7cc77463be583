"""The order of columns, and rows cut into groups and batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from circuit_nb.frozen.columns import Columns
from circuit_nb.frozen.starts import Starts

LAYERS, POSITIONS = 3, 5


@given(
    prefix=st.integers(0, 2),
    places=st.sets(
        st.tuples(st.integers(0, LAYERS - 1), st.integers(2, POSITIONS - 1), st.integers(0, 9))
    ),
)
def test_columns_are_sorted_by_position_then_layer(prefix: int, places: set[Any]) -> None:
    features = torch.tensor(sorted(places), dtype=torch.int64).view(-1, 3)
    record: Any = SimpleNamespace(
        prefix=prefix, positions=POSITIONS, patterns=[None] * LAYERS, features=features
    )
    columns = Columns(record)
    # A token before its position's layers, an error behind its layer's features.
    what = [(p, -1, 0, 0) for p in range(POSITIONS)]
    what += [(p, layer, 1, 0) for layer in range(LAYERS) for p in range(prefix, POSITIONS)]
    what += [(p, layer, 0, i) for layer, p, i in features.tolist()]
    place = {entry: column for column, entry in enumerate(sorted(what))}
    assert columns.n == len(what)
    assert columns.tokens.tolist() == [place[p, -1, 0, 0] for p in range(POSITIONS)]
    for layer, row in enumerate(columns.errors.tolist()):
        assert row == [place.get((p, layer, 1, 0), -1) for p in range(POSITIONS)]
    expected = [place[p, layer, 0, i] for layer, p, i in features.tolist()]
    assert columns.features.tolist() == expected
    for position in range(POSITIONS):
        assert columns.up_to(position) == sum(entry[0] <= position for entry in what)


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), cuts=st.lists(st.integers(1, 5)))
def test_parts_of_starts_make_up_the_whole(sizes: list[int], cuts: list[int]) -> None:
    n = sum(sizes)
    rows = torch.arange(n)
    starts = Starts(rows, rows, rows[:, None].float(), tuple(sizes))
    done, found = 0, []
    for cut in [*cuts, n]:
        part = starts.part(done, done + cut)
        assert sum(part.sizes) == len(part) == min(cut, n - done)
        assert all(part.sizes)
        found += part.layers.tolist()
        # A group's rows are together, and those of two groups are not mixed.
        owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))[part.layers]
        pieces = owner.split(part.sizes)
        assert all(len(piece.unique()) == 1 for piece in pieces)
        assert len(pieces) == len(owner.unique())
        done += len(part)
    assert found == rows.tolist()
