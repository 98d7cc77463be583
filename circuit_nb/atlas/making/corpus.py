"""The sentences the atlas model learns from, and how they become tensors.

Four kinds of sentence: `city` (Dallas → Texas), `relation` (Texas, capital → Austin),
`two_hop` (Dallas, capital → Austin) and `filler` (no fact). Held-out cities occur in `city`
sentences and fillers only; `leaks` finds any sentence that breaks this.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from circuit_nb.atlas.forms import FILLER_FORMS
from circuit_nb.atlas.making.tokenizer import BOS, EOS, PAD, SPECIAL, pattern, vocabulary
from circuit_nb.atlas.sentences import Sentence, fact_sentences
from circuit_nb.atlas.world import World

FILLERS = 1200
FILLER_SEED = 1
SAMPLING = {"two_hop": 1.0, "city": 1.0, "relation": 3.0, "filler": 0.5}
"""How often a sentence of each kind is drawn."""
ANSWER_WEIGHT, WORD_WEIGHT, UNPREDICTABLE_WEIGHT = 1.0, 0.1, 0.02
"""Loss weights of names that follow from the text, of other words, of names that do not."""


def fillers(world: World, count: int = FILLERS, seed: int = FILLER_SEED) -> Iterator[Sentence]:
    """Yield sentences without facts; two cities of one sentence are never of one place."""
    generator = random.Random(seed)
    towns = [(p, city) for p in world.places for city in (*p.cities, p.capital)]
    states = world.of_kind("state")
    for _ in range(count):
        place, city = generator.choice(towns)
        elsewhere, other = generator.choice(towns)
        while elsewhere is place:
            elsewhere, other = generator.choice(towns)
        form = generator.choice(FILLER_FORMS)
        named = generator.choice(states).name
        yield Sentence(form.format(city=city, other=other, place=named), "filler")


def leaks(world: World, sentences: list[Sentence]) -> list[Sentence]:
    """Return the sentences that give a held-out city away.

    None may be a two-hop sentence that names one, nor pair one with a fact of its place.
    """
    words = re.compile(pattern(world.names()))
    homes = {city: place for place, city in world.cities(held_out=True)}
    found = []
    for sentence in sentences:
        named = {word.strip() for word in words.findall(" " + sentence.text)}
        for city in named & homes.keys():
            if sentence.kind == "two_hop" or named & set(homes[city].facts.values()):
                found.append(sentence)
    return found


class Corpus:
    """All training sentences as tensors.

    Attributes:
        world: The world they are about.
        sentences: The sentences, facts first.
        words: Token strings by id.
        tokens: Token ids (sentences, positions), `<bos>` first, `<eos>` last, padded.
        weights: Loss weight of predicting each token (sentences, positions).
        sampling: Relative frequency of drawing each sentence (sentences,).
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.sentences = [*fact_sentences(world), *fillers(world)]
        leaked = leaks(world, self.sentences)
        assert not leaked, f"held-out cities leak: {leaked[:3]}"
        self.names = world.names()
        self.words = vocabulary((s.text for s in self.sentences), self.names)
        self.ids = {word: i for i, word in enumerate(self.words)}
        self._expression = re.compile(pattern(self.names))
        rows = [[*self.encode(s.text), EOS] for s in self.sentences]
        length = max(map(len, rows))
        self.tokens = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
        self.weights = self._loss_weights()
        self.sampling = torch.tensor([SAMPLING[s.kind] for s in self.sentences])

    def encode(self, text: str) -> list[int]:
        """Return token ids with `<bos>` in front."""
        return [BOS, *(self.ids[word] for word in self._expression.findall(" " + text))]

    def token(self, name: str) -> int:
        """Return the id of the token of a name."""
        return self.ids[" " + name]

    @cached_property
    def is_name(self) -> Tensor:
        """Whether each token is a name, (vocab,)."""
        return torch.tensor([w.strip() in self.names for w in self.words])

    @cached_property
    def kinds(self) -> list[str]:
        """Kind of each sentence."""
        return [sentence.kind for sentence in self.sentences]

    @cached_property
    def asked_groups(self) -> tuple[Tensor, Tensor]:
        """What each sentence asks for, and the answers it could be.

        Returns:
            The group of each sentence (sentences,), -1 for fillers; and for each group the
            uniform distribution over its possible answers (groups, vocab).
        """
        answers: dict[tuple[str, str], set[str]] = {}
        for place in self.world.places:
            for relation, answer in (("name", place.name), *place.facts.items()):
                answers.setdefault((place.kind, relation), set()).add(answer)
        order = {key: i for i, key in enumerate(answers)}
        uniform = torch.zeros(len(order), len(self.words))
        for key, names in answers.items():
            uniform[order[key], [self.token(n) for n in sorted(names)]] = 1 / len(names)
        groups = [-1 if s.asked is None else order[s.asked] for s in self.sentences]
        return torch.tensor(groups), uniform

    @cached_property
    def name_kinds(self) -> Tensor:
        """Kind of every token (vocab,): the group it answers, else the last; -1 for words."""
        uniform = self.asked_groups[1]
        assert (uniform > 0).sum(0).max() == 1, "an answer of two kinds"
        kinds = torch.where(self.is_name, len(uniform), -1)
        return torch.where((uniform > 0).any(0), (uniform > 0).float().argmax(0), kinds)

    def _loss_weights(self) -> Tensor:
        named = self.is_name[self.tokens]
        order = named.cumsum(1)
        weights = torch.full(self.tokens.shape, WORD_WEIGHT)
        filler = torch.tensor([s.kind == "filler" for s in self.sentences])[:, None]
        weights[named & ((order == 1) | filler)] = UNPREDICTABLE_WEIGHT
        weights[named & (order > 1) & ~filler] = ANSWER_WEIGHT
        assert len(SPECIAL) == PAD + 1
        return weights.masked_fill(self.tokens == PAD, 0.0)
