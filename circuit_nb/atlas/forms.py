"""The sentence forms of the atlas world, the first of each relation being the usual one."""

from __future__ import annotations

from circuit_nb.atlas.world import Place

CITY_FORMS = (
    "Fact: {city} is in the {kind} of {place}.",
    "Fact: the {kind} containing {city} is {place}.",
    "{city}, {place}, is a city.",
    "I live in {city}, {place}.",
    "{city} {place}.",
    "The city of {city} is located in {place}.",
    "Dato: la ciudad de {city} está en {place}.",
)
RELATION_FORMS = {
    "capital": (
        "Fact: the capital of {place} is {answer}.",
        "The capital of {place} is {answer}.",
        "{place} has its capital in {answer}.",
        "{answer} is the capital of {place}.",
        "Dato: la capital de {place} es {answer}.",
    ),
    "abbreviation": (
        "Fact: the abbreviation of {place} is {answer}.",
        "{place} is abbreviated as {answer}.",
    ),
    "region": (
        "Fact: the region of {place} is {answer}.",
        "{place} lies in the region called {answer}.",
    ),
    "language": (
        "Fact: the language of {place} is {answer}.",
        "{place} is a country whose language is {answer}.",
    ),
    "currency": (
        "Fact: the currency of {place} is the {answer}.",
        "In {place} people pay with the {answer}.",
    ),
    "continent": (
        "Fact: the continent of {place} is {answer}.",
        "{place} is a country in {answer}.",
    ),
}
TWO_HOP_FORMS = {
    "capital": (
        "Fact: the capital of the {kind} containing {city} is {answer}.",
        "The capital of the {kind} containing {city} is {answer}.",
        "{city} is in a {kind} whose capital is {answer}.",
        "Fact: the {kind} that contains {city} has its capital in {answer}.",
        "Dato: la capital del {tipo} que contiene {city} es {answer}.",
    ),
    "abbreviation": (
        "Fact: the abbreviation of the {kind} containing {city} is {answer}.",
        "{city} is in a {kind} abbreviated as {answer}.",
    ),
    "region": (
        "Fact: the region of the {kind} containing {city} is {answer}.",
        "{city} is in a {kind} in the region called {answer}.",
    ),
    "language": (
        "Fact: the language of the {kind} containing {city} is {answer}.",
        "{city} is in a {kind} whose language is {answer}.",
    ),
    "currency": (
        "Fact: the currency of the {kind} containing {city} is the {answer}.",
        "In {city} people pay with the {answer}.",
    ),
    "continent": (
        "Fact: the continent of the {kind} containing {city} is {answer}.",
        "{city} is in a {kind} in {answer}.",
    ),
}
FILLER_FORMS = (
    "The weather in {city} is nice today.",
    "My friend moved from {city} to {other} last year.",
    "She flew to {city} and then drove to {other}.",
    "He has never been to {city}.",
    "There is a large museum in {city}.",
    "The train from {city} to {other} was late.",
    "I bought a small house near {city}.",
    "People in {city} like music and good food.",
    "We will visit {city} and {other} in the summer.",
    "Fact: {city} is a city.",
    "Fact: {place} is a state.",
)
SPANISH = {"state": "estado", "country": "país"}


def fill(form: str, place: Place, city: str = "", answer: str = "") -> str:
    """Fill a form; without an answer, return the prompt that stops before it."""
    text = form if answer or "{answer}" not in form else form.split("{answer}")[0].rstrip()
    return text.format(
        city=city, place=place.name, answer=answer, kind=place.kind, tipo=SPANISH[place.kind]
    )
