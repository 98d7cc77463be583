"""A few hundred damaged files of every kind; by hand, `fuzzing.py` reads many more."""

from __future__ import annotations

import pytest
from fuzzing import run
from kinds import KINDS

RUNS = 300


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_damaged_files_are_refused_as_promised(kind: str) -> None:
    tally = run(kind, RUNS)
    refused = sum(tally.refused.values())
    # Both happen: most are refused, and some are files that can be.
    assert tally.runs == RUNS
    assert RUNS / 2 < refused < RUNS
