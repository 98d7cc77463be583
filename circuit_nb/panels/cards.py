"""Feature cards for the panels: asked for when needed, remembered, and never in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from circuit_nb.atlas import shipped_with
from circuit_nb.graph import AttributionGraph

if TYPE_CHECKING:
    from circuit_nb.cards import Example, FeatureCard, Texts
    from circuit_nb.model.replacement import ReplacementModel

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
        given: Labels that came with the graph; they come before those of cards.
    """

    def __init__(
        self,
        graph: AttributionGraph,
        model: ReplacementModel | None,
        source: CardSource | None,
        given: Mapping[Key, str] | None = None,
    ) -> None:
        self._ask = source if callable(source) else self._joined
        self._graph, self._model = graph, model
        self.source = source
        shipped = shipped_with(graph.provenance)
        self.at_hand = source is not None or shipped is not None
        """Whether cards cost nothing to ask for, as those that ship with the embedded model."""
        self.problem = ""
        """Why cards could not be had, in words; empty where they could."""
        self.shipped: Mapping[Key, str] = given or {}
        """Labels that came with the graph."""
        self.labels: Mapping[Key, str] = self.shipped
        """Labels known so far; another object whenever there are more."""
        self.given: Mapping[Key, str] = self.shipped
        """Those of them that are names, and not made up from what a feature does."""
        self._known: dict[Key, FeatureCard | None] = {}
        self._unsure: set[Key] = set()

    def fetch(self, keys: Iterable[Key]) -> None:
        """Get the cards that are not there yet; a failure is kept in `problem`."""
        missing = [k for k in dict.fromkeys(keys) if k not in self._known]
        if not missing:
            return
        try:
            found = self._ask(missing)
        except (OSError, ValueError, KeyError, ImportError) as error:
            found = {}
            self.problem = str(error)
        if self.problem:
            self._unsure.update(missing)
        self._known.update({key: found.get(key) for key in missing})
        named = {
            key: found[key].label
            for key in missing
            if key in found and found[key].label and key not in self.shipped
        }
        if named:
            self.labels = {**self.labels, **named}
            given = {k: text for k, text in named.items() if found[k].source != "automatic"}
            self.given = {**self.given, **given}

    def ask_again(self) -> None:
        """Ask once more for the cards that a problem kept from being known."""
        keys, self._unsure, self.problem = self._unsure, set(), ""
        for key in keys:
            del self._known[key]
        self.fetch(sorted(keys))

    def card(self, key: Key) -> FeatureCard | None:
        """The card of one feature, got now if need be; None where nothing is known."""
        self.fetch([key])
        return self._known[key]

    @property
    def densities(self) -> dict[Key, float]:
        """Share of all tokens on which features are active, as far as cards say it."""
        cards = ((key, card) for key, card in self._known.items() if card is not None)
        return {key: card.density for key, card in cards if card.density is not None}

    def known(self, key: Key) -> FeatureCard | None:
        """The card of one feature if it was got already; none is asked for."""
        return self._known.get(key)

    @cached_property
    def elsewhere(self) -> Mapping[Key, str]:
        """Labels at hand of features whether or not they are in the graph: to be searched."""
        from circuit_nb.cards import CardSet

        companions = shipped_with(self._graph.provenance)
        shipped = companions.labels if companions is not None else {}
        source = {} if callable(self.source) or self.source is None else self.source
        return {**CardSet(source).labels, **shipped}

    def examples(self, key: Key) -> tuple[Example, ...]:
        """Texts that activate a feature: its card's, else found now if the model brings texts."""
        card, texts = self.card(key), self._texts()
        if card is not None and texts is not None and not card.examples:
            self._known[key] = card = replace(card, examples=texts.examples(*key))
        return card.examples if card is not None else ()

    def usual(self, key: Key) -> float | None:
        """How active a feature usually is where it is active; None where that is not known.

        By its card: the middle of the activations counted there; else the mean of its peaks in
        the texts that activate it.
        """
        card, examples = self.card(key), self.examples(key)
        if card is not None and card.histogram is not None and sum(card.histogram.counts) > 0:
            counts, edges = card.histogram
            total, below = sum(counts), 0.0
            for count, low, high in zip(counts, edges, edges[1:], strict=False):
                if below + count >= total / 2:
                    return low + (high - low) * (total / 2 - below) / count
                below += count
        peaks = [max(e.activations, default=0.0) for e in examples]
        peaks = [p for p in peaks if p > 0]
        return sum(peaks) / len(peaks) if peaks else None

    def _texts(self) -> Texts | None:
        """Texts to find examples in, where the model brings them along."""
        if callable(self.source) or self._model is None:
            return None
        from circuit_nb.cards.texts import shipped

        return shipped(self._model)

    def _joined(self, keys: Iterable[Key]) -> Mapping[Key, FeatureCard]:
        """Every place that cards come from, as `circuit_nb.cards.of` joins them.

        After a problem the network is left alone until `ask_again`: each click would wait for it.
        """
        from circuit_nb import cards

        def tell(problem: str) -> None:
            self.problem = problem

        computed = None if callable(self.source) else self.source
        return cards.of(
            self._graph,
            keys,
            model=self._model,
            computed=computed,
            online=not self.problem,
            on_problem=tell,
        )

    @property
    def promoted(self) -> dict[Key, str]:
        """What the features whose cards are known promote, as one line each."""
        return {
            k: "promotes " + ", ".join(token.strip() for token, _ in c.promotes[:4])
            for k, c in self._known.items()
            if c is not None and c.promotes
        }
