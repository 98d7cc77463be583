"""What many graphs have in common, and what tells some from others. Pure functions on profiles.

A graph uses what pruning keeps of it (`circuit_nb.patterns.profile`). Influence is the share of
the targets' input that passes through a feature. Intervals hold 95 % of 1,000 resamples of the
prompts.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from circuit_nb.patterns import usage
from circuit_nb.patterns.profile import Profile
from circuit_nb.patterns.roles import Roles, align
from circuit_nb.patterns.statistics import (
    adjusted,
    cliffs_delta,
    interval,
    resampled_means,
    shuffled,
)
from circuit_nb.patterns.usage import Unit, Usage

if TYPE_CHECKING:
    import plotly.graph_objects as go

Labels = Mapping[tuple[int, int], str]
ALPHA = 0.05
_FEWEST = 3
"""What fewer prompts of both sets use is not compared: nothing could be told of it."""


class Shared(NamedTuple):
    """A feature, or an edge, that many prompts use."""

    units: tuple[Unit, ...]
    """The feature; of an edge source and target."""
    label: str
    share: float
    """Of the prompts that use it."""
    share_interval: tuple[float, float]
    mean: float
    """Mean influence over all prompts; of an edge what passes along it, signed."""
    mean_interval: tuple[float, float]
    stability: float
    """In what share of the resamples it is shared as widely as was asked."""


@dataclass(frozen=True)
class Common:
    """What a share of the prompts use."""

    share: float
    n_prompts: int
    roles: Roles
    features: tuple[Shared, ...]
    """The most influential first."""
    edges: tuple[Shared, ...]
    """The strongest first."""
    answers: tuple[str, ...]
    """The answer of each prompt."""

    def __str__(self) -> str:
        firm = sum(f.stability >= 0.95 for f in self.features)
        return (
            f"{len(self.features)} features and {len(self.edges)} edges are used by at least "
            f"{self.share:.0%} of {self.n_prompts} prompts; {firm} of the features also in 95 % of "
            "all resamples."
        )

    def figure(self, *, without: Container[Unit] = ()) -> go.Figure:
        """The circuit they make: each node with its share of the prompts.

        Args:
            without: Features drawn hollow, such as those that one prompt lacks.
        """
        from circuit_nb.figures.sets import average_circuit_figure

        def row(unit: Unit) -> tuple[int, int, int]:
            return unit.layer, unit.role, unit.index

        nodes = {row(f.units[0]): (f.label, f.share, f.mean) for f in self.features}
        hollow = {row(f.units[0]) for f in self.features if f.units[0] in without}
        edges = [(row(e.units[0]), row(e.units[1]), e.share, e.mean) for e in self.edges]
        return average_circuit_figure(nodes, edges, self.roles.names, self.n_prompts, hollow)


def common(
    profiles: Sequence[Profile],
    share: float = 0.8,
    *,
    by: str = "role",
    labels: Labels | None = None,
    seed: int = 0,
) -> Common:
    """Features and edges that a share of the prompts use.

    Args:
        profiles: Of each graph.
        share: Above 0, up to 1.
        by: What counts as the same place: `"role"` in what the prompts share, counted from the
            `"last"` token, `"absolute"`, or `"any"`.
        labels: Labels by (layer, index).
        seed: Of the resamples.

    Raises:
        ValueError: If there are no graphs, or `share` or `by` is out of range.
    """
    if not profiles:
        raise ValueError("The set has no graphs; there is nothing in common.")
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; give one above 0, up to 1.")
    roles, n = align([p.tokens for p in profiles], by), len(profiles)
    least = max(1, int(np.ceil(share * n - 1e-9)))
    found = [
        _shared(part(profiles, roles, least), share, roles, labels or {}, seed)
        for part in (usage.features, usage.edges)
    ]
    answers = tuple(p.answer for p in profiles)
    return Common(share, n, roles, found[0], found[1], answers)


def _shared(
    use: Usage, share: float, roles: Roles, labels: Labels, seed: int
) -> tuple[Shared, ...]:
    if not use.values.shape[1]:
        return ()
    used = use.used
    means = resampled_means(use.values, seed)
    shares = resampled_means(used, seed)
    low, high = interval(means)
    least, most = interval(shares)
    firm = (shares >= share - 1e-9).mean(0)
    mean = use.values.mean(0, dtype=np.float64)
    order = np.argsort(-np.abs(mean), kind="stable")
    return tuple(
        Shared(
            units := _units(use, i),
            " → ".join(usage.label_of(u, roles.names, labels) for u in units),
            float(used[:, i].mean()),
            (float(least[i]), float(most[i])),
            float(mean[i]),
            (float(low[i]), float(high[i])),
            float(firm[i]),
        )
        for i in order.tolist()
    )


def _units(use: Usage, column: int) -> tuple[Unit, ...]:
    row = use.rows[column].tolist()
    return tuple(Unit(*row[i : i + 3]) for i in range(0, len(row), 3))


class Difference(NamedTuple):
    """A feature by which two sets differ, or do not."""

    unit: Unit
    label: str
    difference: float
    """Mean influence in the first set minus that in the second."""
    interval: tuple[float, float]
    """Of the difference."""
    effect: float
    """Cliff's delta, −1 to 1: how much likelier its influence is larger in the first set."""
    shares: tuple[float, float]
    """Of each set's prompts that use it."""
    p: float
    """How often shuffled labels part the sets as far."""
    q: float
    """The same, corrected for how many features were compared."""


@dataclass(frozen=True)
class Comparison:
    """What tells two sets apart."""

    n_prompts: tuple[int, int]
    roles: Roles
    every: tuple[Difference, ...]
    """All that was compared, the least likely by chance first."""

    @property
    def found(self) -> tuple[Difference, ...]:
        """What tells them apart: of these at most 5 % are expected to be chance."""
        return tuple(d for d in self.every if d.q <= ALPHA)

    def __str__(self) -> str:
        first = "; ".join(
            f"{d.label} ({d.difference:+.3f}, {d.interval[0]:+.3f} to {d.interval[1]:+.3f})"
            for d in self.found[:3]
        )
        return (
            f"{len(self.found)} of {len(self.every)} features tell {self.n_prompts[0]} prompts "
            f"from {self.n_prompts[1]} (false discovery rate 5 %)" + (f": {first}" if first else "")
        )


def compare(
    first: Sequence[Profile],
    second: Sequence[Profile],
    *,
    by: str = "role",
    labels: Labels | None = None,
    seed: int = 0,
) -> Comparison:
    """What tells one set from another: features that are more influential in one of them.

    Each feature that at least three prompts use is tested by shuffling which prompt is of which
    set; p-values are corrected for many comparisons (Benjamini and Hochberg 1995).

    Args:
        first: Of each graph of the one set.
        second: Of each graph of the other.
        by: As for `common`; places are those of both sets together.
        labels: Labels by (layer, index).
        seed: Of resamples and shuffles.

    Raises:
        ValueError: If one set has fewer than two graphs.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(
            f"The sets have {len(first)} and {len(second)} graphs; give at least two of each."
        )
    every = [*first, *second]
    roles = align([p.tokens for p in every], by)
    use = usage.features(every, roles, _FEWEST)
    a, b = use.values[: len(first)], use.values[len(first) :]
    if not use.values.shape[1]:
        return Comparison((len(first), len(second)), roles, ())
    p = shuffled(a, b, seed)
    q, effect = adjusted(p), cliffs_delta(a, b)
    low, high = interval(resampled_means(a, seed) - resampled_means(b, seed + 1))
    difference = a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)
    shares = use.used[: len(first)].mean(0), use.used[len(first) :].mean(0)
    order = np.lexsort((-np.abs(difference), p))
    rows = (
        Difference(
            use.unit(i),
            usage.label_of(use.unit(i), roles.names, labels or {}),
            float(difference[i]),
            (float(low[i]), float(high[i])),
            float(effect[i]),
            (float(shares[0][i]), float(shares[1][i])),
            float(p[i]),
            float(q[i]),
        )
        for i in order.tolist()
    )
    return Comparison((len(first), len(second)), roles, tuple(rows))
