"""Figures of many prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from circuit_nb.figures.sets import SIDES, prompts_figure
from circuit_nb.figures.style import LEADING, SMALL, text_width

HEIGHT = 300
"""Of the drawing, pixels."""


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("width", [440, 900])
@pytest.mark.parametrize("others", [10, 30])
def test_names_on_the_map_lie_on_nothing(seed: int, width: int, others: int) -> None:
    """Outliers close together, as those are that depart in one way: one name lay on another.

    Where the others are few, they have names as well.
    """
    random, n = np.random.default_rng(seed), 12 + others
    near = random.normal(size=(3, 2))[random.integers(0, 3, 12)] + 0.05 * random.normal(
        size=(12, 2)
    )
    points = np.concatenate([near, random.normal(size=(others, 2))])
    outliers = np.arange(n) < 12
    prompts = [f"City {i} → capital {i}" for i in range(n)]
    figure: Any = prompts_figure(points, prompts, np.ones(n), outliers, (0.3, 0.2))
    at = (points - points.min(axis=0)) / np.ptp(points, axis=0) * (width, HEIGHT)
    usual, far = figure.data
    words = [*zip(far.text, far.textposition, strict=True)]
    words += zip(usual.text, usual.textposition, strict=True)
    boxes: list[tuple[float, ...]] = []
    for place, (text, side) in zip(at, words, strict=True):
        if text:
            half = np.array([text_width(text, SMALL), SMALL * LEADING]) / 2
            middle = place + np.array(SIDES[side]) * (half + 7)
            boxes.append((*(middle - half), *(middle + half)))
    assert any(far.text) and any(usual.text) == (others == 10), "some have room"
    for i, (left, low, right, high) in enumerate(boxes):
        assert not ((at > (left, low)) & (at < (right, high))).all(axis=1).any(), "on a point"
        for x0, y0, x1, y1 in boxes[:i]:
            assert left >= x1 or x0 >= right or low >= y1 or y0 >= high, "on a name"
    assert len(far.hovertext) == 12, "whose name has no room, has it when pointed at"
