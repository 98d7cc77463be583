"""Sequences of several lengths in few passes."""

from __future__ import annotations

import random

import pytest

from circuit_nb.model.padding import alike


@pytest.mark.parametrize("tokens", [None, 5, 64, 1000])
def test_every_sequence_is_in_one_part_of_like_lengths_and_bounded_size(tokens: int | None) -> None:
    draw = random.Random(0)
    lengths = [draw.randint(1, 60) for _ in range(200)]
    parts = alike(lengths, tokens)
    assert sorted(i for part in parts for i in part) == list(range(200))
    for part in parts:
        longest = max(lengths[i] for i in part)
        assert min(lengths[i] for i in part) >= 0.75 * longest
        assert tokens is None or len(part) == 1 or len(part) * longest <= tokens
    if tokens is not None:  # No part could take the next sequence in, too.
        full = [len(p) * max(lengths[i] for i in p) for p in parts]
        for size, part, after in zip(full, parts, parts[1:], strict=False):
            longest = max(lengths[i] for i in part)
            following = max(lengths[i] for i in after)
            assert size + longest > tokens or following < 0.75 * longest
