"""Motifs that recur in circuits, told by the structure of graphs alone: copy, two-hop, "say X".

The motifs are those that Lindsey et al. 2025 ("On the Biology of a Large Language Model": the step
that is neither in the prompt nor the answer, and the features that say a word) and Ameisen et al.
2025 ("Circuit Tracing") describe in words. Here they are counted, so each has a plain definition
(`DEFINITIONS`). Input is positive input along the edges that pruning keeps, traced back to tokens.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from circuit_nb.patterns import usage
from circuit_nb.patterns.profile import Profile
from circuit_nb.patterns.roles import align
from circuit_nb.patterns.statistics import interval, resampled_means
from circuit_nb.patterns.usage import Unit

LEAST = 0.1
"""A motif is there from this strength on."""
HALF = 0.5
DEFINITIONS = {
    "copy": (
        "The answer stands in the prompt, and its input traces back to that word. Strength: the "
        "share of the answer's input that does."
    ),
    "two-hop": (
        "Before the last token a feature gets half of its input from one word; in another prompt "
        "another word leads to the same feature at the same place and on to the same answer, as "
        "at least half of the prompts that use the feature give. Strength: the smaller of its "
        "influences on the two."
    ),
    "say X": (
        "At the last token features pass on half of their output directly to the answer. Strength: "
        "the share of the answer's input that comes from them."
    ),
}
"""What each motif is. Two-hop needs prompts of different words with the same answer."""

Array = npt.NDArray[np.float64]


class Motif(NamedTuple):
    """How often one motif is found."""

    name: str
    share: float
    """Of the prompts."""
    interval: tuple[float, float]
    """95 % of the resamples of the prompts."""
    strength: float
    """Mean over the prompts that have it; not a number where none has."""


@dataclass(frozen=True)
class Motifs:
    """Motifs of a set of prompts."""

    strength: Array
    """(prompts, motifs) in the order of `DEFINITIONS`, 0 to 1."""
    bridges: tuple[str, ...]
    """Of each prompt, the feature between its two hops in words; empty where there is none."""
    every: tuple[Motif, ...]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which prompt has which, (prompts, motifs)."""
        return self.strength >= LEAST

    def __str__(self) -> str:
        return (
            "; ".join(
                f"{m.name} in {m.share:.0%} ({m.interval[0]:.0%} to {m.interval[1]:.0%})"
                for m in self.every
            )
            + f" of {len(self.strength)} prompts."
        )


def motifs(
    profiles: Sequence[Profile],
    *,
    by: str = "role",
    labels: Mapping[tuple[int, int], str] | None = None,
    seed: int = 0,
) -> Motifs:
    """Count copy, two-hop and "say X", as `DEFINITIONS` has them.

    Args:
        profiles: Of each graph.
        by: As for `patterns.common`.
        labels: Labels by (layer, index); they name bridges and find nothing.
        seed: Of the resamples.

    Raises:
        ValueError: If there are no graphs.
    """
    if not profiles:
        raise ValueError("The set has no graphs; there are no motifs.")
    roles = align([p.tokens for p in profiles], by)
    ways = [_ways(p) for p in profiles]
    strength = np.zeros((len(profiles), len(DEFINITIONS)))
    strength[:, 0] = [_copied(p, w) for p, w in zip(profiles, ways, strict=True)]
    strength[:, 2] = [w.said for w in ways]
    units = [
        [Unit(layer, int(where[at]), index) for layer, at, index in p.features.tolist()]
        for p, where in zip(profiles, roles.of, strict=True)
    ]
    bridges = [""] * len(profiles)
    for unit, (prompt, value) in _bridges(profiles, ways, units):
        if value > strength[prompt, 1]:
            strength[prompt, 1] = value
            bridges[prompt] = usage.label_of(unit, roles.names, labels or {})
    shares = strength >= LEAST
    low, high = interval(resampled_means(shares, seed))
    every = (
        Motif(
            name,
            float(shares[:, i].mean()),
            (float(low[i]), float(high[i])),
            float(strength[shares[:, i], i].mean()) if shares[:, i].any() else float("nan"),
        )
        for i, name in enumerate(DEFINITIONS)
    )
    return Motifs(strength, tuple(bridges), tuple(every))


class _Ways(NamedTuple):
    """Where the input of one graph's features and of its answer comes from."""

    origin: Array
    """Share of each feature's input that traces back to each token; last the answer's,
    (features + 1, positions)."""
    said: float
    """Share of the answer's input that comes from features that say it."""


def _ways(p: Profile) -> _Ways:
    n, last = len(p.features), len(p.tokens) - 1
    source, target = p.edges[p.flow > 0].T.astype(np.int64)
    flow = p.flow[p.flow > 0].astype(np.float64)
    target = np.where(target < 0, n, target)
    table = np.zeros((n + 1, n + len(p.tokens)))
    np.add.at(table, (target, source), flow)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1e-30)
    origin = shares[:, n:].copy()
    for row in range(n + 1):  # features are in the order of layers, the answer is last
        origin[row] += shares[row, :n] @ origin[:n]
    direct, out = table[n, :n], table[:, :n].sum(0)
    says = (p.features[:, 1] == last) & (direct >= HALF * out) & (direct > 0)
    return _Ways(origin, float(shares[n, :n][says].sum()))


def _copied(p: Profile, ways: _Ways) -> float:
    answer = p.answer.strip()
    there = [bool(answer) and token.strip() == answer for token in p.tokens]
    return float(ways.origin[-1][there].sum())


def _bridges(
    profiles: Sequence[Profile], ways: Sequence[_Ways], units: Sequence[Sequence[Unit]]
) -> list[tuple[Unit, tuple[int, float]]]:
    """Features that different words lead to and that lead to one answer, by prompt."""
    uses: dict[Unit, list[tuple[int, str, str, float]]] = defaultdict(list)
    for i, (p, way, own) in enumerate(zip(profiles, ways, units, strict=True)):
        for unit, (_, at, _), origin, value in zip(
            own, p.features.tolist(), way.origin[:-1], p.influence.tolist(), strict=True
        ):
            word = int(origin.argmax())
            if at < len(p.tokens) - 1 and origin[word] >= HALF:
                uses[unit].append((i, p.tokens[word], p.answer, value))
    found: list[tuple[Unit, tuple[int, float]]] = []
    for unit, rows in uses.items():
        count = Counter(answer for _, _, answer, _ in rows)
        for i, word, answer, value in rows:
            others = (v for _, w, a, v in rows if a == answer and w != word)
            least = min(value, max(others, default=0.0))
            if least and count[answer] >= HALF * len(rows):
                found.append((unit, (i, least)))
    return found
