"""Which prompts use which features and edges, as matrices whose columns are the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from circuit_nb.patterns.profile import Profile
from circuit_nb.patterns.roles import Roles

Ints = npt.NDArray[np.int64]
MOST_CELLS = 2 * 10**8
"""A matrix has at most so many numbers; columns that more prompts use go before others."""


@dataclass(frozen=True, order=True, slots=True)
class Unit:
    """A feature, a token or the answer, where it stands in all prompts."""

    layer: int
    """-1 of a token, -2 of the answer."""
    role: int
    """Number of its place in `Roles.names`; -1 of the answer."""
    index: int
    """-1 of a token and of the answer."""


ANSWER = Unit(-2, -1, -1)


@dataclass(frozen=True)
class Usage:
    """What prompts use, (prompts, columns)."""

    rows: Ints
    """What each column is, (columns, 3) of `Unit`s; of edges (columns, 6), source and target."""
    values: npt.NDArray[np.float32]
    """Influence, or flow; 0 where it is not used. Summed where several positions are one place."""

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Whether a prompt uses it."""
        return self.values != 0

    def unit(self, column: int) -> Unit:
        """The feature of a column."""
        return Unit(*self.rows[column].tolist())


def label_of(unit: Unit, names: Sequence[str], labels: Mapping[tuple[int, int], str]) -> str:
    """A unit in words."""
    if unit == ANSWER:
        return "answer"
    place = names[unit.role]
    if unit.layer < 0:
        return place
    known = labels.get((unit.layer, unit.index))
    return f"{known or f'L{unit.layer} #{unit.index}'} @ {place}"


def features(profiles: Sequence[Profile], roles: Roles, least: int = 1) -> Usage:
    """Features that at least so many prompts use."""
    rows = [_placed(p, where) for p, where in zip(profiles, roles.of, strict=True)]
    keys, units = _keys(rows)
    columns, values = _matrix(keys, _sizes(rows), [p.influence for p in profiles], least)
    return Usage(units[columns], values)


def edges(profiles: Sequence[Profile], roles: Roles, least: int = 1) -> Usage:
    """Edges that at least so many prompts use."""
    rows: list[Ints] = []
    for p, where in zip(profiles, roles.of, strict=True):
        # In the order in which a profile's edges number their ends.
        tokens = np.stack([np.full(len(where), -1), where, np.full(len(where), -1)], axis=1)
        rows.append(np.concatenate([_placed(p, where), tokens, np.array([[-2, -1, -1]])]))
    numbers, units = _keys(rows)
    firsts = np.cumsum([0, *_sizes(rows)])
    pairs: list[Ints] = []
    for p, first, end in zip(profiles, firsts[:-1], firsts[1:], strict=True):
        source, target = numbers[first:end][p.edges].T
        pairs.append(source * len(units) + target)
    sizes, flows = _sizes(pairs), [p.flow for p in profiles]
    columns, values = _matrix(np.concatenate([*pairs, np.zeros(0, int)]), sizes, flows, least)
    ends = np.stack(np.divmod(columns, len(units)), axis=1)
    return Usage(units[ends].reshape(-1, 6), values)


def _placed(p: Profile, where: Ints) -> Ints:
    found = p.features.astype(np.int64)
    if len(found):
        found[:, 1] = where[found[:, 1]]
    return found


def _sizes(rows: Sequence[Ints]) -> list[int]:
    return [len(r) for r in rows]


def _keys(rows: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Number every unit: of each row the number of its unit, and all units in order, (units, 3).

    Rows are told apart one number at a time, as sorting numbers is far quicker than sorting rows.
    """
    every = np.concatenate([*rows, np.zeros((0, 3), np.int64)])
    key = np.zeros(len(every), dtype=np.int64)
    for part in every.T:
        values, place = np.unique(part, return_inverse=True)
        key = np.unique(key * len(values) + place, return_inverse=True)[1]
    units = np.zeros((int(key.max(initial=-1)) + 1, 3), dtype=np.int64)
    units[key] = every
    return key, units


def _matrix(
    keys: Ints, sizes: Sequence[int], values: Sequence[npt.NDArray[np.float32]], least: int
) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Which prompt has how much of what.

    Args:
        keys: What each value is of, all prompts' after each other.
        sizes: How many are each prompt's.
        values: The values, by prompt.
        least: So many prompts must have it.

    Returns:
        The keys kept, ascending, (columns,), and the values, (prompts, columns).
    """
    prompt = np.repeat(np.arange(len(sizes)), sizes)
    columns, place = np.unique(keys, return_inverse=True)
    cells = np.unique(prompt * max(len(columns), 1) + place)
    counts = np.bincount(cells % max(len(columns), 1), minlength=len(columns))
    most = MOST_CELLS // max(len(sizes), 1)
    order = np.argsort(-counts, kind="stable")[:most]
    kept = np.sort(order[counts[order] >= least])
    number = np.full(len(columns), -1)
    number[kept] = np.arange(len(kept))
    flat = np.concatenate([*values, np.zeros(0, np.float32)])
    here = number[place] >= 0
    found = np.zeros((len(sizes), len(kept)), dtype=np.float32)
    np.add.at(found, (prompt[here], number[place[here]]), flat[here])
    return columns[kept], found
