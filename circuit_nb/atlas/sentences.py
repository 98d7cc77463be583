"""The sentences of the atlas world that state a fact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from circuit_nb.atlas.forms import CITY_FORMS, RELATION_FORMS, TWO_HOP_FORMS, fill
from circuit_nb.atlas.world import Place, World


@dataclass(frozen=True)
class Sentence:
    """One training sentence."""

    text: str
    kind: str
    """`city`, `relation`, `two_hop` or `filler`."""
    asked: tuple[str, str] | None = None
    """(kind of place, relation) of its last name; the relation `name` asks for the place."""


def fact_sentences(world: World) -> Iterator[Sentence]:
    """Yield every sentence that states a fact."""
    for place in world.places:
        for relation, answer in place.facts.items():
            for form in RELATION_FORMS[relation]:
                asked = (place.kind, relation)
                yield Sentence(fill(form, place, answer=answer), "relation", asked)
        for city in (*place.cities, place.capital):
            for form in CITY_FORMS:
                yield Sentence(fill(form, place, city), "city", (place.kind, "name"))
            if city not in world.held_out:
                yield from _two_hop(place, city)


def _two_hop(place: Place, city: str) -> Iterator[Sentence]:
    for relation, answer in place.facts.items():
        for form in TWO_HOP_FORMS[relation]:
            yield Sentence(fill(form, place, city, answer), "two_hop", (place.kind, relation))
