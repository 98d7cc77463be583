"""What the model says before and after an intervention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from circuit_nb.figures.table import Table
from circuit_nb.graph import Feature, Supernode
from circuit_nb.intervention.change import Intervention, features_of
from circuit_nb.intervention.heads import HeadIntervention
from circuit_nb.model.vocabulary import Vocabulary

Freeze: TypeAlias = Literal["attention", "all", "none"]

FREEZES = ("attention", "all", "none")

KeepLogits: TypeAlias = Literal["last", "all"]

LOGITS = ("last", "all")

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


def shares_of(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities of logits, (vocab,) both."""
    exponents = np.exp(logits - logits.max())
    return exponents / exponents.sum()


@dataclass(frozen=True, repr=False)
class Prediction:
    """What the model says after the prompt: data, which keeps no model alive."""

    top: list[tuple[str, float]]
    """The most likely next tokens and their probabilities, as `most_likely` orders them."""
    logits: npt.NDArray[np.float32]
    """(1, vocab), those of the last position; (positions, vocab) with `keep_logits="all"`. Either
    way `logits[-1]` is about the next token."""
    activations: Mapping[Feature, float] = field(default_factory=dict[Feature, float])
    """Activation of every watched feature. With `freeze="all"`, where the on/off choices are held
    as well, the pre-activation of those that are on."""
    pre_activations: Mapping[Feature, float] = field(default_factory=dict[Feature, float])
    """Pre-activation of every watched feature."""
    text: str = ""
    """The generated continuation, if one was asked for."""
    generated: tuple[int, ...] = ()
    """Its token ids."""
    generated_probabilities: npt.NDArray[np.float32] = field(
        default_factory=lambda: np.zeros(0, dtype=np.float32)
    )
    """Probability of each of them after everything before it, (generated,), 0 to 1: the model's
    own, whatever the temperature they were sampled at."""
    vocabulary: Vocabulary | None = None
    """The model's tokens by text; without it, only ids are known."""

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """Probability of every next token, (vocab,)."""
        return shares_of(self.logits[-1])

    def token_id(self, token: str | int) -> int:
        """The id of a token given as text or id.

        Raises:
            ValueError: If the text is not one token, or the id does not exist.
        """
        if self.vocabulary is None:
            return int(token)
        return self.vocabulary.token_id(token)

    def probability(self, token: str | int) -> float:
        """Probability of one next token, given as text or id.

        Raises:
            ValueError: If the text is not one token, or the id does not exist.
        """
        return float(self.probabilities[self.token_id(token)])

    def _table(self) -> Table:
        watched = [(str(f), (value,)) for f, value in self.activations.items()]
        tokens = [(text, (share,)) for text, share in self.top]
        texts = [("continues", self.text)] if self.text else []
        return Table("", ("probability",), tokens, watched, texts)

    def __repr__(self) -> str:
        return self._table().text("Prediction")

    def _repr_html_(self) -> str:
        return self._table().html("Prediction")


@dataclass(frozen=True, repr=False)
class Outcome:
    """What an intervention did: data, which keeps no model alive."""

    before: Prediction
    after: Prediction
    interventions: tuple[Intervention | HeadIntervention, ...]
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

    def _table(self) -> Table:
        pair = (self.before, self.after)
        shares = [(p.probabilities, p.activations) for p in pair]
        # In turn the next of either, so that what leads on one side is seen.
        both = zip_longest(_leading(self.before), _leading(self.after))
        tokens = dict(entry for rank in both for entry in rank if entry is not None)
        rows = [(text, tuple(float(s[i]) for s, _ in shares)) for i, text in tokens.items()]
        watched = [(str(f), tuple(a[f] for _, a in shares)) for f in self.before.activations]
        texts = [("before", self.before.text), ("after", self.after.text)]
        changes = ", ".join(map(str, self.interventions)) or "nothing changed"
        told = {"attention": "attention frozen", "all": "all frozen", "none": "nothing frozen"}
        title = f"{changes} ({told[self.freeze]})"
        generated = self.before.generated or self.after.generated
        return Table(title, ("before", "after"), rows, watched, texts if generated else [])

    def __repr__(self) -> str:
        return self._table().text("Outcome")

    def _repr_html_(self) -> str:
        return self._table().html("Outcome")


def _leading(prediction: Prediction) -> list[tuple[int, str]]:
    """The most likely tokens of a prediction, ids and texts."""
    ids = most_likely(prediction.probabilities, len(prediction.top)).tolist()
    return list(zip(ids, (text for text, _ in prediction.top), strict=True))
