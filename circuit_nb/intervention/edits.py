"""Interventions as single values at single positions, the last of several at a place winning."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from circuit_nb.graph import Feature
from circuit_nb.intervention.change import Intervention
from circuit_nb.intervention.readings import check_place
from circuit_nb.model.record import Record
from circuit_nb.model.replacement import ReplacementModel


@dataclass(frozen=True)
class Edit:
    """One new value for one feature in one row."""

    row: int
    feature: Feature
    value: float
    relative: bool
    """Whether `value` is a multiple of the activation rather than the activation."""
    generated: bool = False
    """Whether it holds at tokens generated from `feature.position` on, not in the prompt."""
    until: int = sys.maxsize
    """The position from which on a later edit of the same feature holds instead."""


def edits_of(
    model: ReplacementModel, record: Record, rows: Iterable[Iterable[object]]
) -> list[Edit]:
    """What the interventions on features do in each row of a pass.

    Raises:
        ValueError: If the model has no such feature, or the prompt no such position.
    """
    check = cache(partial(_check, model, record))  # rows often hold the same features
    edits: list[Edit] = []
    for row, changes in enumerate(rows):
        own = (change for change in changes if isinstance(change, Intervention))
        every = [edit for one in own for edit in _edits(model, record, row, one, check)]
        edits += {edit.feature: edit for edit in every if not edit.generated}.values()
        edits += _ended([edit for edit in every if edit.generated])
    return edits


def _edits(
    model: ReplacementModel,
    record: Record,
    row: int,
    intervention: Intervention,
    check: Callable[[Feature], None],
) -> Iterator[Edit]:
    start = intervention.from_position
    for feature, value in zip(intervention.features, intervention.values, strict=True):
        places: Iterable[int] = (feature.position,)
        if intervention.positions is not None:
            places = intervention.positions
        if start is not None:
            model.transcoders.check(feature.layer, feature.index)
            places = range(max(start, record.ignored), record.positions)
            later = replace(feature, position=start)
            yield Edit(row, later, value, intervention.relative, generated=True)
        for position in places:
            same = position == feature.position
            place = feature if same else replace(feature, position=position)
            check(place)
            yield Edit(row, place, value, intervention.relative)


def _check(model: ReplacementModel, record: Record, place: Feature) -> None:
    check_place(model, record, place)
    if place.position < record.ignored:
        raise ValueError(
            f"Position {place.position} is the special token the prompt begins with; its "
            f"features are ignored. Give a position from {record.ignored} on."
        )


def _ended(edits: Sequence[Edit]) -> Iterator[Edit]:
    """Each edit of generated tokens, ended where a later one of the same feature begins."""
    begins: dict[tuple[int, int], int] = {}
    for edit in reversed(edits):
        key = edit.feature.layer, edit.feature.index
        until = begins.get(key, sys.maxsize)
        begins[key] = min(until, edit.feature.position)
        if edit.feature.position < until:
            yield replace(edit, until=until)
