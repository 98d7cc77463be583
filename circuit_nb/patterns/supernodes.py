"""Supernodes across prompts: features of one place that prompts use alike.

Two features are used alike where the same prompts use them, their input comes from the same sources
and their output goes to the same targets: the mean of the three cosines. Features are grouped by
Ward's method, and resampling the prompts says how firm the groups are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from circuit_nb.grouping.merging import directions, groups, merges
from circuit_nb.grouping.naming import common_label
from circuit_nb.patterns import usage
from circuit_nb.patterns.profile import Profile
from circuit_nb.patterns.roles import Roles, align
from circuit_nb.patterns.statistics import interval, resampled_means
from circuit_nb.patterns.usage import Unit, Usage

FEWEST, MOST = 2, 400
"""A feature is grouped if so many prompts use it; at most so many are, the most influential."""
APART = 0.5
"""Two features are one group up to this mean cosine below 1; larger groups merge at like cost."""
RESAMPLES = 100

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


class Group(NamedTuple):
    """Features that prompts use alike."""

    name: str
    units: tuple[Unit, ...]
    """Its features, the most influential first."""
    labels: tuple[str, ...]
    share: float
    """Of the prompts that use at least one of them."""
    share_interval: tuple[float, float]
    stability: float
    """In what share of the resamples two of its features are together, on average."""


@dataclass(frozen=True)
class Supernodes:
    """Groups of features over a set of prompts."""

    n_prompts: int
    groups: tuple[Group, ...]
    """Those of at least two features, the most influential first."""
    units: Numbers
    """Every feature that was grouped, (features, 3) of `Unit`s."""
    group_of: Numbers
    """Its group, (features,); numbers that only one feature has stand alone."""
    together: Array
    """In what share of the resamples that use both two features are in one group, (features,
    features); not a number where none uses both."""

    def __str__(self) -> str:
        firm = sum(g.stability >= 0.8 for g in self.groups)
        return (
            f"{len(self.groups)} supernodes of {sum(len(g.units) for g in self.groups)} of "
            f"{len(self.units)} features that {self.n_prompts} prompts use; {firm} of them hold in "
            "80 % of all resamples."
        )


def supernodes(
    profiles: Sequence[Profile],
    *,
    by: str = "role",
    labels: Mapping[tuple[int, int], str] | None = None,
    seed: int = 0,
) -> Supernodes:
    """Group features by how prompts use them.

    Args:
        profiles: Of each graph.
        by: As for `patterns.common`.
        labels: Labels by (layer, index); they name the groups and group nothing.
        seed: Of the resamples.

    Raises:
        ValueError: If there are fewer than two graphs.
    """
    if len(profiles) < 2:
        raise ValueError(f"{len(profiles)} graphs have no supernodes; give at least two.")
    roles, n = align([p.tokens for p in profiles], by), len(profiles)
    use, links = usage.features(profiles, roles, FEWEST), usage.edges(profiles, roles)
    order = np.sort(np.argsort(-use.values.sum(0), kind="stable")[:MOST])
    use = Usage(use.rows[order], use.values[:, order])
    ends = _ends(use.rows, links.rows)
    group_of = _grouped(use, links, ends, np.ones(n))
    together = _together(use, links, ends, seed)
    found = [np.flatnonzero(group_of == g) for g in np.unique(group_of)]
    strength = use.values.sum(0)
    found.sort(key=lambda members: -float(strength[members].sum()))
    return Supernodes(
        n,
        tuple(
            _group(use, members, strength, together, roles, labels or {}, seed)
            for members in found
            if len(members) > 1
        ),
        use.rows,
        group_of,
        together,
    )


def _ends(features: Numbers, edges: Numbers) -> tuple[tuple[Numbers, Numbers, Numbers], ...]:
    """Inputs, then outputs: edges whose one end is grouped, that end, and the other's number."""
    number = {tuple(row): i for i, row in enumerate(features.tolist())}
    found: list[tuple[Numbers, Numbers, Numbers]] = []
    for own, other in ((edges[:, 3:], edges[:, :3]), (edges[:, :3], edges[:, 3:])):
        at = np.array([number.get(tuple(row), -1) for row in own.tolist()], dtype=np.int64)
        there = np.flatnonzero(at >= 0)
        others = np.unique(other[there], axis=0, return_inverse=True)[1].ravel()
        found.append((there, at[there], others))
    return tuple(found)


def _grouped(
    use: Usage,
    links: Usage,
    ends: tuple[tuple[Numbers, Numbers, Numbers], ...],
    weights: Array,
) -> Numbers:
    """The group of each feature, (features,); -1 of what the prompts with weight do not use.

    Args:
        use: Features.
        links: Edges.
        ends: As `_ends` found them.
        weights: How often each prompt counts, (prompts,).
    """
    parts = [directions((use.used * np.sqrt(weights)[:, None]).T)]
    flow = weights @ links.values
    for edges, own, other in ends:
        table = np.zeros((len(use.rows), int(other.max(initial=-1)) + 1))
        np.add.at(table, (own, other), flow[edges])
        # What has no input that is kept has none in common with another that has none.
        parts.append(directions(np.hstack([table, np.diag(~table.any(axis=1))])))
    vectors = np.concatenate(parts, axis=1) / np.sqrt(len(parts))
    group_of = np.full(len(use.rows), -1)
    there = parts[0].any(axis=1)
    for role in np.unique(use.rows[:, 1]):
        here = np.flatnonzero(there & (use.rows[:, 1] == role))
        tree = merges(vectors[here], np.ones(len(here)))
        for members in groups(tree, len(here), APART):
            group_of[here[members]] = here[members[0]]
    return group_of


def _together(
    use: Usage, links: Usage, ends: tuple[tuple[Numbers, Numbers, Numbers], ...], seed: int
) -> Array:
    random, n = np.random.default_rng(seed), len(use.values)
    same = np.zeros((len(use.rows), len(use.rows)))
    both = np.zeros_like(same)
    for drawn in random.multinomial(n, np.full(n, 1 / n), size=RESAMPLES):
        group_of = _grouped(use, links, ends, drawn.astype(np.float64))
        there = group_of >= 0
        both += there[:, None] & there
        same += (group_of[:, None] == group_of) & there
    return np.where(both > 0, same / np.maximum(both, 1), np.nan)


def _group(
    use: Usage,
    members: Numbers,
    strength: npt.NDArray[Any],
    together: Array,
    roles: Roles,
    labels: Mapping[tuple[int, int], str],
    seed: int,
) -> Group:
    members = members[np.argsort(-strength[members], kind="stable")]
    units = [use.unit(i) for i in members.tolist()]
    texts = [labels.get((u.layer, u.index), "") for u in units]
    name = common_label(texts, strength[members])
    pairs = together[np.ix_(members, members)][np.triu_indices(len(members), 1)]
    used = np.asarray(use.used[:, members].any(axis=1))[:, None]
    low, high = interval(resampled_means(used, seed))
    return Group(
        f"{name} @ {roles.names[units[0].role]}"
        if name
        else usage.label_of(units[0], roles.names, {}),
        tuple(units),
        tuple(usage.label_of(u, roles.names, labels) for u in units),
        float(used.mean()),
        (float(low[0]), float(high[0])),
        float(np.nanmean(pairs)) if np.isfinite(pairs).any() else float("nan"),
    )
