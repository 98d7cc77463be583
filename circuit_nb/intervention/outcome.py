"""What the model says before and after an intervention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.graph import Feature, Supernode
from circuit_nb.intervention.change import Intervention, features_of

Freeze: TypeAlias = Literal["attention", "all", "none"]


FREEZES = ("attention", "all", "none")


TIE = 1e-6
"""Probabilities that are equal after rounding to this are tied."""


def most_likely(probabilities: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Token ids of the highest probabilities, (count,), highest first, ties by id.

    Which of many tied tokens leads by a rounding error would differ from machine to machine.

    Args:
        probabilities: (vocab,).
        count: How many; all if there are fewer.
    """
    count = min(count, len(probabilities))
    least = np.partition(probabilities, -count)[-count]
    near = np.flatnonzero(probabilities >= least - TIE)
    steps = np.round(probabilities[near] / TIE)
    return near[np.argsort(-steps, kind="stable")[:count]]


@dataclass(frozen=True)
class Prediction:
    """What the model says after the prompt."""

    top: list[tuple[str, float]]
    """The most likely next tokens and their probabilities, as `most_likely` orders them."""
    logits: npt.NDArray[np.float32]
    """(positions, vocab)."""
    activations: Mapping[Feature, float] = field(default_factory=dict[Feature, float])
    """Activation of every watched feature. With `freeze="all"`, where the on/off choices are held
    as well, the pre-activation of those that are on."""
    pre_activations: Mapping[Feature, float] = field(default_factory=dict[Feature, float])
    """Pre-activation of every watched feature."""
    text: str = ""
    """The generated continuation, if one was asked for."""
    generated: tuple[int, ...] = ()
    """Its token ids."""
    token_id: Callable[[str | int], int] = field(default=int, repr=False)  # type: ignore[arg-type]

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """Probability of every next token, (vocab,)."""
        exponents = np.exp(self.logits[-1] - self.logits[-1].max())
        return exponents / exponents.sum()

    def probability(self, token: str | int) -> float:
        """Probability of one next token, given as text or id."""
        return float(self.probabilities[self.token_id(token)])


@dataclass(frozen=True)
class Outcome:
    """What an intervention did."""

    before: Prediction
    after: Prediction
    interventions: tuple[Intervention, ...]
    freeze: Freeze

    def fraction(self, what: Feature | Supernode) -> float:
        """Mean over features of activation after / activation before.

        Features that were inactive before have no fraction and are left out; NaN if all were.
        What counts is what a feature reads after the intervention: one that is itself set to a
        value shows what it would have been.

        Raises:
            ValueError: If a feature was not in `watch`.
        """
        before, after = self.before.activations, self.after.activations
        missing = [f for f in features_of(what) if f not in before]
        if missing:
            raise ValueError(f"{missing[0]} was not watched; pass it to intervene(watch=[…]).")
        parts = [after[f] / before[f] for f in features_of(what) if before[f]]
        return float(np.mean(parts)) if parts else float("nan")
