"""Feature cards for the panels: asked for when needed, remembered, and never in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from circuit_nb.graph import AttributionGraph

if TYPE_CHECKING:
    from circuit_nb.cards import FeatureCard
    from circuit_nb.model import ReplacementModel

Key: TypeAlias = tuple[int, int]
"""(layer, index)."""

CardSource: TypeAlias = (
    "Callable[[Iterable[Key]], Mapping[Key, FeatureCard]] | Mapping[Key, FeatureCard]"
)
"""Cards by (layer, index), or what gives them when asked; those not known are left out.

A mapping, as `circuit_nb.cards.compute` makes it, is joined with what else is known.
"""


class Cards:
    """The cards of one graph's features.

    Args:
        graph: The graph.
        model: The model, if there is one.
        source: Where cards come from; by default `circuit_nb.cards.of`.
    """

    def __init__(
        self, graph: AttributionGraph, model: ReplacementModel | None, source: CardSource | None
    ) -> None:
        self._ask = source if callable(source) else _joined(graph, model, source)
        self.source = source
        self.at_hand = source is not None or graph.provenance.get("model") == "atlas"
        """Whether cards cost nothing to ask for, as those that ship with the embedded model."""
        self.problem: Exception | None = None
        """Why the last request for cards failed, if it did."""
        self.labels: Mapping[Key, str] = {}
        """Labels of the cards got so far; another object whenever there are more."""
        self.given: Mapping[Key, str] = {}
        """Those of them that are names, and not made up from what a feature does."""
        self._known: dict[Key, FeatureCard | None] = {}

    def fetch(self, keys: Iterable[Key]) -> None:
        """Get the cards that are not there yet; a failure is kept in `problem`."""
        missing = [k for k in dict.fromkeys(keys) if k not in self._known]
        if not missing:
            return
        try:
            found = self._ask(missing)
            self.problem = None
        except (OSError, ValueError, KeyError, ImportError) as error:
            found = {}
            self.problem = error
        self._known.update({key: found.get(key) for key in missing})
        named = {key: found[key].label for key in missing if key in found and found[key].label}
        if named:
            self.labels = {**self.labels, **named}
            given = {k: text for k, text in named.items() if found[k].source != "automatic"}
            self.given = {**self.given, **given}

    def card(self, key: Key) -> FeatureCard | None:
        """The card of one feature, got now if need be; None where nothing is known."""
        self.fetch([key])
        return self._known[key]

    @property
    def promoted(self) -> dict[Key, str]:
        """What the features whose cards are known promote, as one line each."""
        return {
            k: "promotes " + ", ".join(token.strip() for token, _ in c.promotes[:4])
            for k, c in self._known.items()
            if c is not None and c.promotes
        }


def _joined(
    graph: AttributionGraph,
    model: ReplacementModel | None,
    computed: Mapping[Key, FeatureCard] | None,
) -> Callable[[Iterable[Key]], Mapping[Key, FeatureCard]]:
    """Every place that cards come from, as `circuit_nb.cards.of` joins them."""

    def ask(keys: Iterable[Key]) -> Mapping[Key, FeatureCard]:
        from circuit_nb import cards

        return cards.of(graph, keys, model=model, computed=computed)

    return ask
