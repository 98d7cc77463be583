"""What a feature card holds, and the plain label a feature gets when nobody has named it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Key: TypeAlias = tuple[int, int]
"""(layer, index): which feature a card is about, at whatever position."""

BINS = 20
"""Of the histograms that are computed and saved."""
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
    active = _words(fires_on)
    often = sorted(active, key=lambda word: -active[word])
    parts = [
        f"{verb} {', '.join(words[:_MAX_NAMED])}"
        for verb, words in (("fires on", often), ("promotes", list(_words(promotes))))
        if words
    ]
    return " → ".join(parts)


def named_by(card: FeatureCard, telling: int | None, fires_on: Iterable[str] = ()) -> str:
    """`automatic_label` of a card.

    Args:
        card: The card.
        telling: How many of the tokens that it promotes are told of; all if None.
        fires_on: Tokens at which it is active, used where the card has no examples.
    """
    active = [peak_token(example) for example in card.examples] or list(fires_on)
    # With nothing to fire on, what comes first is still better than no name.
    promotes = card.promotes[:telling] if active else card.promotes
    return automatic_label(active, (token for token, _ in promotes))


def _words(tokens: Iterable[str]) -> dict[str, int]:
    """How often each word occurs, the first first; forms that differ by case and blanks alone are
    one word, in the form that is the commonest."""
    forms: dict[str, Counter[str]] = {}
    for token in tokens:
        form = token.strip() or repr(token)
        forms.setdefault(form.casefold(), Counter())[form] += 1
    return {of.most_common(1)[0][0]: of.total() for of in forms.values()}
