"""Prompts that ask the atlas model for a fact, as rows of tokens with the answers they want."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from circuit_nb.atlas.forms import RELATION_FORMS, TWO_HOP_FORMS, fill
from circuit_nb.atlas.making.corpus import Corpus
from circuit_nb.atlas.making.probe import Transcoder, run
from circuit_nb.atlas.world import Place

NAME_FORM = "Fact: the {kind} containing {city} is {answer}."
"""The one-hop form: from the city to its place."""


@dataclass(frozen=True)
class Prompts:
    """Prompts of one form, all of the same length."""

    tokens: Tensor
    """(rows, positions)."""
    answers: Tensor
    """Wanted next token (rows,)."""
    places: tuple[Place, ...]
    """The place each row is about."""
    cities: tuple[str, ...]
    """The city each row names, or an empty string."""
    city_position: int
    """Where the city stands; -1 where there is none."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.places)

    def take(self, rows: Sequence[int]) -> Prompts:
        """Return some of the rows, in the given order."""
        index = torch.tensor(rows, dtype=torch.long)
        return Prompts(
            self.tokens[index],
            self.answers[index],
            tuple(self.places[i] for i in rows),
            tuple(self.cities[i] for i in rows),
            self.city_position,
        )


def two_hop(corpus: Corpus, kind: str, relation: str, *, held_out: bool, form: int = 0) -> Prompts:
    """Return the two-hop prompts of one relation for held-out or for training cities."""
    template = TWO_HOP_FORMS[relation][form]
    return _of_cities(corpus, kind, relation, template, held_out=held_out)


def one_hop(corpus: Corpus, kind: str, *, held_out: bool) -> Prompts:
    """Return the prompts that ask for the place of a city."""
    return _of_cities(corpus, kind, "name", NAME_FORM, held_out=held_out)


def about_places(corpus: Corpus, kind: str, relation: str) -> Prompts:
    """Return the prompts that ask a place itself for a fact."""
    places = corpus.world.of_kind(kind)
    texts = [fill(RELATION_FORMS[relation][0], place) for place in places]
    answers = [corpus.token(place.facts[relation]) for place in places]
    tokens = torch.tensor([corpus.encode(text) for text in texts])
    return Prompts(tokens, torch.tensor(answers), places, ("",) * len(places), -1)


def _of_cities(
    corpus: Corpus, kind: str, relation: str, template: str, *, held_out: bool
) -> Prompts:
    pairs = [pair for pair in corpus.world.cities(held_out=held_out) if pair[0].kind == kind]
    texts = [fill(template, place, city) for place, city in pairs]
    names = [place.name if relation == "name" else place.facts[relation] for place, _ in pairs]
    tokens = torch.tensor([corpus.encode(text) for text in texts])
    return Prompts(
        tokens,
        torch.tensor([corpus.token(name) for name in names]),
        tuple(place for place, _ in pairs),
        tuple(city for _, city in pairs),
        tokens[0].tolist().index(corpus.token(pairs[0][1])),
    )


@torch.no_grad()
def activations(
    model: LlamaForCausalLM, transcoders: Sequence[Transcoder], prompts: Prompts, position: int
) -> tuple[Tensor, ...]:
    """Return every layer's feature activations (rows, features) at one position."""
    inputs = run(model, prompts.tokens).inputs
    return tuple(t.encode(x[:, position]) for t, x in zip(transcoders, inputs, strict=True))
