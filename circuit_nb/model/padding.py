"""Sequences of several lengths in few passes, with little padding."""

from __future__ import annotations

from collections.abc import Sequence

_ALIKE = 0.75
"""How long the shortest sequence of a pass is at least, as a share of the longest: what is padded
is computed for nothing."""


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Which sequences are of like length: their numbers, in as many parts as that takes."""
    found: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not found or lengths[i] < _ALIKE * lengths[found[-1][0]]:
            found.append([])
        found[-1].append(i)
    return found
