"""Prompts by their circuits: who uses what, who is near whom, whose circuit is another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from circuit_nb.patterns import usage
from circuit_nb.patterns.profile import Profile
from circuit_nb.patterns.roles import Roles, align
from circuit_nb.patterns.usage import Unit, Usage

if TYPE_CHECKING:
    import plotly.graph_objects as go

FAR = 3.5
"""So many deviations (median absolute, scaled to a normal's) below the median is an outlier
(Iglewicz and Hoaglin 1993)."""
SHOWN = 40
MOST = 0.5
"""What more of the other prompts use most have; what fewer use few have."""


class Departure(NamedTuple):
    """A feature that one prompt uses and few others do, or that most use and it does not."""

    unit: Unit
    label: str
    own: float
    """Its influence on the prompt; 0 where it is not used."""
    mean: float
    """Its mean influence on the others."""
    share: float
    """Of the others that use it."""


class Departures(NamedTuple):
    """Where one prompt's circuit leaves the average of the others'."""

    has: tuple[Departure, ...]
    """What it uses and fewer than half of the others do, the strongest and rarest first."""
    lacks: tuple[Departure, ...]
    """What more than half of the others use and it does not, likewise."""


@dataclass(frozen=True)
class PromptsMap:
    """Prompts by circuit."""

    names: tuple[str, ...]
    features: tuple[str, ...]
    """Labels of the features compared, the most influential first."""
    influence: npt.NDArray[np.float32]
    """(prompts, features)."""
    points: npt.NDArray[np.float64]
    """Along the two directions in which circuits differ most, (prompts, 2)."""
    explained: tuple[float, float]
    likeness: npt.NDArray[np.float64]
    """Cosine of each prompt's influences and the mean of all others', (prompts,)."""
    outliers: npt.NDArray[np.bool_]
    units: npt.NDArray[np.int64] = field(repr=False)
    """The features compared, (features, 3) of `Unit`s."""
    _profiles: Sequence[Profile] = field(repr=False)
    _roles: Roles = field(repr=False)
    _labels: Mapping[tuple[int, int], str] = field(repr=False)

    def figure(self, *, picked: int | None = None) -> go.Figure:
        """A scatter of the prompts, with a ring around the one that is picked."""
        from circuit_nb.figures.sets import prompts_figure

        return prompts_figure(
            self.points, self.names, self.likeness, self.outliers, self.explained, picked
        )

    def usage_figure(self, features: int = SHOWN) -> go.Figure:
        """Prompts by features, as a heat map of influence."""
        from circuit_nb.figures.sets import usage_figure

        return usage_figure(self.names, self.features[:features], self.influence[:, :features])

    @cached_property
    def _sums(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """How many prompts use each feature, and its influence on all together."""
        return np.count_nonzero(self.influence, axis=0), self.influence.sum(0)

    def departs(self, number: int, count: int = 10) -> Departures:
        """Where one prompt departs from the average of the others: at most `count` features a way.

        Args:
            number: Of the prompt.
            count: How many are given of what it has, and of what it lacks.

        Raises:
            IndexError: If there is no such prompt.
        """
        own, others = self.influence[number], len(self.names) - 1
        used, total = self._sums
        shares, means = (used - (own != 0)) / others, (total - own) / others
        has = self._those((own != 0) & (shares < MOST), own, means, shares) + self._alone(number)
        lacks = self._those((own == 0) & (shares > MOST), own, means, shares)
        has.sort(key=lambda d: -d.own * (1 - d.share))
        lacks.sort(key=lambda d: -d.mean * d.share)
        return Departures(tuple(has[:count]), tuple(lacks[:count]))

    def _those(self, wanted: npt.NDArray[np.bool_], *numbers: npt.NDArray[Any]) -> list[Departure]:
        columns = np.flatnonzero(wanted)
        rows = np.stack([n[columns] for n in numbers], axis=1).tolist()
        units = self.units[columns].tolist()
        return [
            Departure(Unit(*unit), self.features[i], *row)
            for i, unit, row in zip(columns.tolist(), units, rows, strict=True)
        ]

    def _alone(self, number: int) -> list[Departure]:
        """What this prompt alone uses: it is in no column."""
        where = Roles(self._roles.names, (self._roles.of[number],))
        use, known = usage.features([self._profiles[number]], where), self._known
        every = enumerate(use.values[0].tolist())
        alone = [(use.unit(i), value) for i, value in every if use.unit(i) not in known]
        return [
            Departure(unit, usage.label_of(unit, where.names, self._labels), value, 0.0, 0.0)
            for unit, value in alone
        ]

    @cached_property
    def _known(self) -> set[Unit]:
        return {Unit(*row) for row in self.units.tolist()}


def prompts_map(
    profiles: Sequence[Profile],
    names: Sequence[str],
    *,
    by: str = "role",
    labels: Mapping[tuple[int, int], str] | None = None,
) -> PromptsMap:
    """Compare prompts by the influence of the features that at least two of them use.

    Args:
        profiles: Of each graph.
        names: Of each prompt.
        by: As for `patterns.common`.
        labels: Labels by (layer, index).

    Raises:
        ValueError: If there are fewer than three graphs.
    """
    if len(profiles) < 3:
        raise ValueError(f"{len(profiles)} graphs have no outliers; give at least three.")
    roles = align([p.tokens for p in profiles], by)
    use = usage.features(profiles, roles, 2)
    order = np.argsort(-use.values.mean(0), kind="stable")
    use = Usage(use.rows[order], use.values[:, order])
    values = use.values
    total = values.sum(0, keepdims=True)
    likeness = _cosine(values, (total - values) / (len(values) - 1))
    spread = 1.4826 * float(np.median(np.abs(likeness - np.median(likeness))))
    centred = np.sqrt(values) - np.sqrt(values).mean(0)
    # Of the smaller of the two products: as many numbers as there are prompts.
    u, s, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    points = np.zeros((len(values), 2))
    points[:, : min(2, len(s))] = u[:, :2] * s[:2]
    first, second, *_ = (*(s**2 / max(float((s**2).sum()), 1e-30)).tolist(), 0.0, 0.0)
    columns = range(values.shape[1])
    return PromptsMap(
        tuple(names),
        tuple(usage.label_of(use.unit(i), roles.names, labels or {}) for i in columns),
        values,
        points,
        (first, second),
        likeness,
        likeness < np.median(likeness) - FAR * max(spread, 1e-6),
        use.rows,
        profiles,
        roles,
        labels or {},
    )


def _cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1, dtype=np.float64) / np.maximum(lengths, 1e-30)
