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
    return _matrix(rows, [p.influence for p in profiles], 3, least)


def edges(profiles: Sequence[Profile], roles: Roles, least: int = 1) -> Usage:
    """Edges that at least so many prompts use."""
    rows: list[Ints] = []
    for p, where in zip(profiles, roles.of, strict=True):
        tokens = np.stack([np.full(len(where), -1), where, np.full(len(where), -1)], axis=1)
        units = np.concatenate([_placed(p, where), tokens, np.array([[-2, -1, -1]])])
        rows.append(units[p.edges].reshape(-1, 6))
    return _matrix(rows, [p.flow for p in profiles], 6, least)


def _placed(p: Profile, where: Ints) -> Ints:
    found = p.features.astype(np.int64)
    if len(found):
        found[:, 1] = where[found[:, 1]]
    return found


def _matrix(
    rows: Sequence[Ints], values: Sequence[npt.NDArray[np.float32]], width: int, least: int
) -> Usage:
    sizes = [len(r) for r in rows]
    every = np.concatenate([*rows, np.zeros((0, width), np.int64)])
    prompt = np.repeat(np.arange(len(rows)), sizes)
    columns, place = np.unique(every, axis=0, return_inverse=True)
    place = place.ravel()
    cells = np.unique(prompt * max(len(columns), 1) + place)
    counts = np.bincount(cells % max(len(columns), 1), minlength=len(columns))
    most = MOST_CELLS // max(len(rows), 1)
    order = np.argsort(-counts, kind="stable")[:most]
    kept = np.sort(order[counts[order] >= least])
    number = np.full(len(columns), -1)
    number[kept] = np.arange(len(kept))
    flat = np.concatenate([*values, np.zeros(0, np.float32)])
    here = number[place] >= 0
    found = np.zeros((len(rows), len(kept)), dtype=np.float32)
    np.add.at(found, (prompt[here], number[place[here]]), flat[here])
    return Usage(columns[kept], found)
