"""`sweep`: dose and response of one part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from circuit_nb.evidence.experiments import (
    Floats,
    Metric,
    Part,
    Progress,
    measure_of,
    name_of,
    run,
)
from circuit_nb.graph import AttributionGraph
from circuit_nb.intervention import Freeze, Intervention, Outcome, most_likely
from circuit_nb.model.replacement import ReplacementModel

if TYPE_CHECKING:
    import plotly.graph_objects as go

MULTIPLIERS = tuple(float(x) for x in np.linspace(-5, 5, 21))
N_TOKENS, LEAST = 3, 0.02
"""How many tokens are followed of the prompt and of either end, if they ever are so probable."""


@dataclass(frozen=True)
class Sweep:
    """What the model says as one part's multiplier changes."""

    part: str
    label: str
    """What `metric` measures."""
    multipliers: Floats
    """(n,), of the part's activations on the prompt."""
    tokens: tuple[str, ...]
    probabilities: Floats
    """Of each token next, (n, tokens)."""
    metric: Floats
    """(n,), in logits."""

    def figure(self) -> go.Figure:
        """Probabilities by multiplier."""
        from circuit_nb.figures.evidence import sweep_figure

        return sweep_figure(self.multipliers, self.probabilities, self.tokens, self.part)

    def __str__(self) -> str:
        low, high = int(self.multipliers.argmin()), int(self.multipliers.argmax())
        now = int(np.abs(self.multipliers - 1).argmin())
        first = self.probabilities[:, 0]
        return (
            f"{self.tokens[0].strip()} is at {first[now]:.0%} with {self.part} at "
            f"×{self.multipliers[now]:g}, {first[low]:.0%} at ×{self.multipliers[low]:g} and "
            f"{first[high]:.0%} at ×{self.multipliers[high]:g}."
        )


def sweep(
    model: ReplacementModel,
    graph: AttributionGraph,
    part: Part,
    multipliers: Sequence[float] = MULTIPLIERS,
    *,
    tokens: Sequence[str | int] | None = None,
    metric: Metric = None,
    freeze: Freeze = "attention",
    batch_size: int | None = None,
    progress: Progress = True,
) -> Sweep:
    """Turn one part up and down.

    Args:
        model: The model the graph was made with.
        graph: The graph; its prompt is what is run.
        part: A supernode or a feature.
        multipliers: Of its activations; by default −5 to 5 by halves.
        tokens: Whose probability is followed; by default the most likely ones of the prompt and of
            both ends.
        metric: What else is measured.
        freeze: As for `intervene`.
        batch_size: Rows of a pass; by default chosen from free memory.
        progress: Whether to show a progress bar, or what to tell instead.
    """
    if not len(multipliers):
        raise ValueError("There are no multipliers; give at least one.")
    measure = measure_of(model, graph, metric)
    ids = None if tokens is None else [model.token_id(token) for token in tokens]

    def read(outcome: Outcome) -> tuple[float, Floats]:
        return measure.after(outcome), outcome.after.probabilities.astype(np.float64)

    found = run(
        model,
        graph,
        [[Intervention.scale(part, factor)] for factor in multipliers],
        read,
        freeze=freeze,
        batch_size=batch_size,
        progress=progress,
        doing="Sweep",
    )
    shares = np.stack([probabilities for _, probabilities in found])
    if ids is None:
        now = model.record(graph.token_ids.tolist()).next_logits.float().softmax(-1).cpu().numpy()
        ends = (now, shares[int(np.argmin(multipliers))], shares[int(np.argmax(multipliers))])
        likely = dict.fromkeys(int(i) for row in ends for i in most_likely(row, N_TOKENS))
        ids = [i for n, i in enumerate(likely) if n == 0 or shares[:, i].max() >= LEAST]
    return Sweep(
        part=name_of(part),
        label=measure.label,
        multipliers=np.array(multipliers, dtype=np.float64),
        tokens=tuple(map(model.token, ids)),
        probabilities=shares[:, ids],
        metric=np.array([value for value, _ in found]),
    )
