"""`combinations`: which parts of a circuit are needed, alone and together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from circuit_nb.evidence.experiments import (
    Floats,
    Metric,
    Part,
    Progress,
    features_in,
    measure_of,
    name_of,
    run,
)
from circuit_nb.graph import AttributionGraph
from circuit_nb.intervention import Freeze, Intervention, Outcome
from circuit_nb.model.replacement import ReplacementModel

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_PARTS = 10


@dataclass(frozen=True)
class Combinations:
    """Every way of switching k parts on and off."""

    parts: tuple[str, ...]
    """Their names."""
    label: str
    """What is measured."""
    on: npt.NDArray[np.bool_]
    """(2^k, k): which parts are on; none in the first row, all in the last."""
    metric: Floats
    """(2^k,), in logits."""
    answers: tuple[str, ...]
    """The most likely next token of each, (2^k,)."""

    @property
    def shapley(self) -> Floats:
        """What each part adds, averaged over the orders of switching all on, (k,). They add up to
        the measure with all on minus that with all off (Shapley 1953)."""
        k = self.on.shape[1]
        without = np.arange(len(self.on))
        shares = np.array([factorial(s) * factorial(k - s - 1) / factorial(k) for s in range(k)])
        found = np.zeros(k)
        for part in range(k):
            off = without[~self.on[:, part]]
            gain = self.metric[off | (1 << part)] - self.metric[off]
            found[part] = shares[self.on[off].sum(1)] @ gain
        return found

    @property
    def pairs(self) -> Floats:
        """Of two parts switched off while all others are on, how much more the measure falls than
        the sum of what each costs alone, (k, k): above 0 where one can stand in for the other,
        below 0 where one is of no use without the other; 0 where effects add up."""
        k, everything = self.on.shape[1], len(self.on) - 1
        bits = 1 << np.arange(k)
        alone = self.metric[everything] - self.metric[everything ^ bits]
        both = self.metric[everything] - self.metric[everything ^ (bits | bits[:, None])]
        joint = both - alone - alone[:, None]
        np.fill_diagonal(joint, 0)
        return joint

    def figure(self) -> go.Figure:
        """Shapley values, and the pairs that do not add up."""
        from circuit_nb.figures.evidence import combinations_figure

        return combinations_figure(self.parts, self.shapley, self.pairs)

    def __str__(self) -> str:
        shapley, total = self.shapley, self.metric[-1] - self.metric[0]
        best = int(np.abs(shapley).argmax())
        said = (
            f"All {len(self.parts)} parts together are worth {total:+.3g} on {self.label.strip()}; "
            f"{self.parts[best]} most, {shapley[best]:+.3g}"
        )
        if len(self.parts) < 2:
            return f"{said}."
        i, j = np.unravel_index(np.abs(self.pairs).argmax(), self.pairs.shape)
        joint = self.pairs[i, j]
        how = "stand in for" if joint > 0 else "need"
        return f"{said}; {self.parts[i]} and {self.parts[j]} {how} each other most ({joint:+.3g})."


def combinations(
    model: ReplacementModel,
    graph: AttributionGraph,
    parts: Sequence[Part],
    *,
    metric: Metric = None,
    freeze: Freeze = "attention",
    batch_size: int | None = None,
    progress: Progress = True,
) -> Combinations:
    """Switch parts of a circuit on and off in every combination.

    Args:
        model: The model the graph was made with.
        graph: The graph; its prompt is what is run.
        parts: Supernodes or features, up to 10; off means an activation of 0.
        metric: What is measured.
        freeze: As for `intervene`.
        batch_size: Rows of a pass; by default chosen from free memory.
        progress: Whether to show a progress bar, or what to tell instead.

    Raises:
        ValueError: If there are no parts or too many, or two share a feature.
    """
    k = len(parts)
    if not 1 <= k <= MOST_PARTS:
        raise ValueError(f"{k} parts have 2^{k} combinations; give 1 to {MOST_PARTS} parts.")
    check_apart(parts)
    on = (np.arange(2**k)[:, None] >> np.arange(k)) & 1 == 1
    measure = measure_of(model, graph, metric)

    def read(outcome: Outcome) -> tuple[float, str]:
        return measure.after(outcome), outcome.after.top[0][0]

    experiments = [
        [Intervention.ablate(part) for part, is_on in zip(parts, row, strict=True) if not is_on]
        for row in on.tolist()
    ]
    found = run(
        model,
        graph,
        experiments,
        read,
        freeze=freeze,
        batch_size=batch_size,
        progress=progress,
        doing="Combinations",
    )
    return Combinations(
        parts=tuple(map(name_of, parts)),
        label=measure.label,
        on=on,
        metric=np.array([value for value, _ in found]),
        answers=tuple(answer for _, answer in found),
    )


def check_apart(parts: Sequence[Part]) -> None:
    """Raise `ValueError` if two parts share a feature."""
    seen: dict[object, Part] = {}
    for part in parts:
        for feature in features_in(part):
            if feature in seen:
                raise ValueError(
                    f"{feature} is in both {name_of(seen[feature])!r} and {name_of(part)!r}; give "
                    "each feature to one part."
                )
            seen[feature] = part
