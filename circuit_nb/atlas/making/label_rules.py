"""A label for every live feature, found by a rule.

A feature that belongs to concepts carries the names of the strongest two. Of any other, the
label is the first of these that covers more than half of its activation over all distinct
prefixes of the corpus: the name that comes next (`say Austin`), the place that the current
token belongs to (`Texas`), the kind of name that comes next (`say a state capital`), the
current token (`“is”`), the place that the sentence is about (`about Texas`). What is left is
listed: `Reno, Utica, Dallas, …`. Layer 0 sees one token at a time, so its labels never name
what comes next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from circuit_nb.atlas.making.corpus import Corpus
from circuit_nb.atlas.making.probe import Transcoder
from circuit_nb.atlas.making.samples import Samples
from circuit_nb.atlas.shipped import Concept
from circuit_nb.atlas.world import World

MAJORITY = 0.5
NAMED = 2
"""Concepts named in the label of a feature that belongs to several, the strongest first."""
LISTED = 3
"""Tokens listed for a feature that nothing covers."""


def find_labels(
    transcoders: Sequence[Transcoder],
    samples: Samples,
    corpus: Corpus,
    concepts: Mapping[str, Concept],
) -> dict[tuple[int, int], str]:
    """Return the label of every feature that fires anywhere in the corpus."""
    named: dict[tuple[int, int], list[tuple[float, str]]] = {}
    for concept in concepts.values():
        for layer, index, usual in concept.features:
            named.setdefault((layer, index), []).append((usual, concept.name))
    rules = {how: _rule(corpus, samples, how) for how in RULES}
    found: dict[tuple[int, int], str] = {}
    tokens = rules["token"]
    for layer, transcoder in enumerate(transcoders):
        activations = transcoder.encode(samples.inputs[layer])
        here = [rules[how] for how in (RULES if layer else OF_THE_TOKEN)]
        for index in (activations > 0).any(0).nonzero()[:, 0].tolist():
            titles = [title for _, title in sorted(named.get((layer, index), []), reverse=True)]
            if titles:
                rest = " / …" if len(titles) > NAMED else ""
                found[layer, index] = " / ".join(titles[:NAMED]) + rest
            else:
                found[layer, index] = _describe(activations[:, index], here, tokens)
    return found


RULES = ("say", "place", "say kind", "token", "about")
"""Ways to sort prefixes, in the order in which they are tried."""
OF_THE_TOKEN = ("place", "token")
"""Those that ask for the current token only."""


def _rule(corpus: Corpus, samples: Samples, how: str) -> tuple[Tensor, list[str]]:
    """Return the class of every prefix (prefixes,), 0 for none, and the classes' labels."""
    words = [word.strip() for word in corpus.words]
    homes, kinds = _homes(corpus.world), _kinds(corpus.world)
    if how == "say":
        of_token = [f"say {word}" if word in kinds else "" for word in words]
        tokens = samples.predicted
    elif how == "say kind":
        of_token = [f"say {kinds[word]}" if word in kinds else "" for word in words]
        tokens = samples.predicted
    elif how == "place":
        of_token = [homes.get(word, "") for word in words]
        tokens = samples.tokens
    elif how == "token":
        of_token = [f"“{word}”" for word in words]
        tokens = samples.tokens
    else:
        of_token = [f"about {homes[word]}" if word in homes else "" for word in words]
        tokens = _subject(corpus)[samples.rows]
    labels = ["", *sorted(set(of_token) - {""})]
    order = {label: i for i, label in enumerate(labels)}
    return torch.tensor([order[label] for label in of_token])[tokens], labels


Sorting: TypeAlias = "tuple[Tensor, list[str]]"
"""The class of every prefix (prefixes,), and the classes' labels."""


def _describe(activations: Tensor, rules: Sequence[Sorting], tokens: Sorting) -> str:
    """Return the label of the first class that covers most, or the strongest tokens."""
    total = activations.sum()
    for classes, labels in rules:
        mass = torch.zeros(len(labels)).index_add(0, classes, activations)
        mass[0] = 0.0
        if mass.max() > MAJORITY * total:
            return labels[int(mass.argmax())]
    classes, labels = tokens
    mass = torch.zeros(len(labels)).index_add(0, classes, activations)
    best = [labels[i].strip("“”") for i in mass.topk(LISTED).indices.tolist() if mass[i] > 0]
    return ", ".join(best) + (", …" if (mass > 0).sum() > LISTED else "")


def _subject(corpus: Corpus) -> Tensor:
    """Return the first name of every sentence as a token (sentences,)."""
    named = corpus.is_name[corpus.tokens]
    first = named.float().argmax(1, keepdim=True)
    return corpus.tokens.gather(1, first)[:, 0]


def _homes(world: World) -> dict[str, str]:
    """Return the place of every name that belongs to one place alone."""
    homes: dict[str, set[str]] = {}
    for place in world.places:
        for name in (place.name, *place.cities, *place.facts.values()):
            homes.setdefault(name, set()).add(place.name)
    return {name: next(iter(places)) for name, places in homes.items() if len(places) == 1}


def _kinds(world: World) -> dict[str, str]:
    """Return what kind of answer every answer is, e.g. `a state capital`."""
    kinds: dict[str, str] = {}
    for place in world.places:
        kinds[place.name] = f"a {place.kind}"
        for relation, answer in place.facts.items():
            of = f"{place.kind} capital" if relation == "capital" else relation
            kinds[answer] = f"{'an' if of[0] in 'aeiou' else 'a'} {of}"
    return kinds
