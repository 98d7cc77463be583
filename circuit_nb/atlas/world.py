"""The world the atlas model learns: 50 states, 60 countries, and which cities are held out.

Facts live in `facts/states.csv` and `facts/countries.csv`. A language is *an* official or
national language of the country; a continent is that of its capital; regions are those of
the US Census Bureau.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FACTS = Path(__file__).parent / "facts"
"""Folder of the two fact tables."""

SPLIT_SEED = 0
"""Seed of the draw of held-out cities."""

ALWAYS_HELD_OUT = ("Dallas", "Oakland")
"""Cities held out whatever the draw says: those of the demonstration."""


@dataclass(frozen=True)
class Place:
    """A state or a country."""

    name: str
    """Its name, e.g. `Texas`."""
    kind: str
    """`state` or `country`."""
    facts: dict[str, str]
    """Answer by relation, e.g. `{"capital": "Austin", "abbreviation": "TX", …}`."""
    cities: tuple[str, ...]
    """Cities other than the capital."""

    @property
    def capital(self) -> str:
        """The capital."""
        return self.facts["capital"]


@dataclass(frozen=True)
class World:
    """All places, and the cities that no two-hop sentence names."""

    places: tuple[Place, ...]
    """States first, then countries, each in the order of its table."""
    held_out: frozenset[str]
    """Cities kept out of every two-hop training sentence."""

    def of_kind(self, kind: str) -> tuple[Place, ...]:
        """Return the places of one kind, `state` or `country`."""
        return tuple(place for place in self.places if place.kind == kind)

    def relations(self, kind: str) -> tuple[str, ...]:
        """Return the relations that places of one kind have, `capital` first."""
        return tuple(self.of_kind(kind)[0].facts)

    def cities(self, *, held_out: bool) -> Iterator[tuple[Place, str]]:
        """Yield (place, city) for all held-out cities, or for all others but capitals."""
        for place in self.places:
            for city in place.cities:
                if (city in self.held_out) == held_out:
                    yield place, city

    def names(self) -> frozenset[str]:
        """Return every name: places, capitals, cities and other answers."""
        return frozenset(
            name
            for place in self.places
            for name in (place.name, *place.cities, *place.facts.values())
        )

    def answers(self) -> tuple[str, ...]:
        """Return every name that can be asked for: places and facts, sorted, each once."""
        return tuple(sorted({a for p in self.places for a in (p.name, *p.facts.values())}))


def load_world() -> World:
    """Read the fact tables and draw the held-out cities.

    One city is held out for every state and for every other country.
    """
    places = (*_read("states.csv", "state"), *_read("countries.csv", "country"))
    return World(places, draw_held_out(places))


def draw_held_out(places: tuple[Place, ...], seed: int = SPLIT_SEED) -> frozenset[str]:
    """Draw one city for each state and for every second country."""
    generator = random.Random(seed)
    chosen: set[str] = set()
    countries = 0
    for place in places:
        countries += place.kind == "country"
        fixed = [city for city in place.cities if city in ALWAYS_HELD_OUT]
        drawn = generator.choice(place.cities)
        if place.kind == "state" or countries % 2 == 1:
            chosen.add(fixed[0] if fixed else drawn)
    return frozenset(chosen)


def _read(file_name: str, kind: str) -> tuple[Place, ...]:
    with (FACTS / file_name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(_place(row, kind) for row in rows)


def _place(row: dict[str, str], kind: str) -> Place:
    facts = {key: value for key, value in row.items() if key not in ("name", "cities")}
    return Place(row["name"], kind, facts, tuple(row["cities"].split(";")))
