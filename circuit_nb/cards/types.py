"""What a feature card holds, and the plain label a feature gets when nobody has named it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Key: TypeAlias = tuple[int, int]
"""(layer, index): which feature a card is about, at whatever position."""

_MAX_NAMED = 3
"""Tokens an automatic label names on either side of its arrow."""


class Histogram(NamedTuple):
    """How often a feature takes which activation, where it is active."""

    counts: tuple[float, ...]
    """(bins,) occurrences in each bin."""
    edges: tuple[float, ...]
    """(bins + 1,) activations at which the bins begin and end."""


@dataclass(frozen=True)
class Example:
    """One text in which a feature is active.

    Raises:
        ValueError: If there is not one activation a token.
    """

    tokens: tuple[str, ...]
    """The text's tokens, (positions,)."""
    activations: tuple[float, ...]
    """The feature's activation at each token, (positions,)."""

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.activations):
            raise ValueError(
                f"An example has {len(self.tokens)} tokens and {len(self.activations)} "
                "activations; give one activation a token."
            )


@dataclass(frozen=True)
class FeatureCard:
    """All that is known about one feature. Every text in it is data from outside: escape it."""

    label: str = ""
    """What the feature stands for, in words; empty where nothing is known."""
    examples: tuple[Example, ...] = ()
    """Texts that activate it, the strongest first."""
    promotes: tuple[tuple[str, float], ...] = ()
    """(token, logit effect per unit of activation), the most raised first."""
    suppresses: tuple[tuple[str, float], ...] = ()
    """(token, logit effect per unit of activation), the most lowered first."""
    density: float | None = None
    """Share of tokens on which it is active, 0 to 1."""
    histogram: Histogram | None = None
    """Its activations where it is active."""
    url: str | None = None
    """A page about the feature."""
    source: str = ""
    """Where the label comes from: `atlas`, `neuronpedia`, `computed` or `automatic`."""


def peak_token(example: Example) -> str:
    """The token of an example at which the feature is strongest, of those at which it is active."""
    on = [i for i, value in enumerate(example.activations) if value] or range(len(example.tokens))
    return example.tokens[max(on, key=lambda i: example.activations[i])]


def automatic_label(fires_on: Iterable[str], promotes: Iterable[str]) -> str:
    """A label in plain words: what the feature fires on → what it promotes.

    Args:
        fires_on: Tokens at which the feature is active, repeated as often as they occur.
        promotes: Tokens the feature makes more likely, the strongest first.

    Returns:
        The label; empty if both lists are.
    """
    active = [token for token, _ in Counter(t.strip() or repr(t) for t in fires_on).most_common()]
    raised = list(dict.fromkeys(t.strip() or repr(t) for t in promotes))
    parts = [
        f"{verb} {', '.join(tokens[:_MAX_NAMED])}"
        for verb, tokens in (("fires on", active), ("promotes", raised))
        if tokens
    ]
    return " → ".join(parts)
