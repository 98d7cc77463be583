"""Features of a graph found by the words a reader has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

Labels: TypeAlias = Mapping[Any, Any]
"""A label, or anything with a `label`, by (layer, index) or by feature."""


class Place(Protocol):
    """What is asked of a feature."""

    @property
    def layer(self) -> int: ...  # noqa: D102
    @property
    def position(self) -> int: ...  # noqa: D102
    @property
    def index(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Wanted:
    """What features are looked for by; what is None allows all."""

    text: str | None
    """A part of the label, whatever the case."""
    labels: Labels | None
    """The labels; None for those that ship with the graph's model."""
    token: str | None
    """The token at the feature's position, whatever the case and the spaces around it."""
    layer: int | None
    index: int | None

    def among(
        self, places: Sequence[Place], tokens: Sequence[str], origin: Mapping[str, object]
    ) -> list[int]:
        """Which places are meant, as numbers in the order given.

        Args:
            places: The features.
            tokens: The prompt's tokens, one a position.
            origin: The graph's provenance: which model and transcoders it is of.

        Raises:
            ValueError: If a label is asked for and there are none, or there is no such token.
        """
        labels = {} if self.text is None else self._known_labels(origin)
        part = (self.text or "").casefold()
        at = range(len(tokens)) if self.token is None else _positions(self.token, tokens)
        return [
            number
            for number, place in enumerate(places)
            if place.position in at
            and self.layer in (None, place.layer)
            and self.index in (None, place.index)
            and part in label_of(labels, place).casefold()
        ]

    def _known_labels(self, origin: Mapping[str, object]) -> Labels:
        from circuit_nb.atlas import shipped_with  # opening a graph does without

        shipped = shipped_with(origin)
        found = self.labels or (shipped.labels if shipped and self.labels is None else {})
        if not found:
            raise ValueError(
                f"There are no labels to find {self.text!r} in: none ship with this graph's model. "
                "Give labels={(layer, index): text}, such as those read from Neuronpedia, or look "
                "by token, layer or index."
            )
        return found


def _positions(token: str, tokens: Sequence[str]) -> set[int]:
    wanted = token.strip().casefold()
    found = {p for p, other in enumerate(tokens) if other.strip().casefold() == wanted}
    if not found:
        said = ", ".join(map(repr, tokens))
        raise ValueError(f"{token!r} is no token of this prompt; its tokens are {said[:200]}.")
    return found


def label_of(labels: Labels, place: Place) -> str:
    """A feature's label among labels; empty where there is none."""
    label = labels.get((place.layer, place.index), labels.get(place, ""))
    return str(getattr(label, "label", label))
