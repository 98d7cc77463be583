"""Which features stand for what: chosen by a rule, on training cities only.

- A *place* (state or country): features whose activation at the city token, averaged over
  each place's training cities, falls to more than `PLACE_SHARE` on that place and that fire
  on at least `FIRES` of its training cities.
- *say X*: the same at the last token, over the answers X of every relation. The share is the
  best of `SAY_SHARES` on training cities (see `choose_say_share`).
- A *relation*: the same at the relation's own word, over the relations.
- *say a RELATION*: the same at the last token, over the relations.

A feature's mean there is at least a set part of its highest activation in the corpus
(`PLACE_PEAK`, `SAY_PEAK`, `RELATION_PEAK`): what fires more strongly elsewhere stands for
something else. Features of places and relations lie before the last layer, which only the
head reads. A concept's usual activations are its means over the training
prompts where it is present.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from circuit_nb.atlas.making.corpus import Corpus
from circuit_nb.atlas.making.measures import Subject, answered_right, removed, share, swapped
from circuit_nb.atlas.making.probe import Transcoder
from circuit_nb.atlas.making.prompts import activations, one_hop, two_hop
from circuit_nb.atlas.making.samples import Samples
from circuit_nb.atlas.shipped import Concept

PLACE_SHARE = 0.5
RELATION_SHARE = 0.6
SAY_SHARES = (0.15, 0.2, 0.3, 0.4)
"""Shares tried for *say X*."""
FIRES = 0.25
RELATION_FIRES = 0.5
PLACE_PEAK = 0.15
RELATION_PEAK = 0.3
SAY_PEAK = 0.4
KINDS = ("state", "country")
WORD_POSITION = 4
"""Where the relation's word stands in `<bos> Fact: the capital of …`."""


Features = dict[Hashable, tuple[tuple[int, int, float], ...]]
"""(layer, index, mean activation) of each feature, by group."""


@dataclass
class Means:
    """Mean activation and firing rate of every feature, for groups of prompts."""

    sums: dict[Hashable, list[Tensor]] = field(default_factory=dict)
    fired: dict[Hashable, list[Tensor]] = field(default_factory=dict)
    counts: dict[Hashable, int] = field(default_factory=dict)

    def add(self, keys: Sequence[Hashable], values: tuple[Tensor, ...]) -> None:
        """Add rows: the group of each, and per layer its activations (rows, features)."""
        for key in dict.fromkeys(keys):
            rows = [i for i, other in enumerate(keys) if other == key]
            self.counts[key] = self.counts.get(key, 0) + len(rows)
            zeros = [torch.zeros(v.shape[1]) for v in values]
            sums, fired = self.sums.setdefault(key, zeros), self.fired.setdefault(key, list(zeros))
            for layer, value in enumerate(values):
                sums[layer] = sums[layer] + value[rows].sum(0)
                fired[layer] = fired[layer] + (value[rows] > 0).float().sum(0)

    def select(
        self,
        least_share: float,
        least_fired: float = FIRES,
        *,
        peaks: Sequence[Tensor] | None = None,
        least_peak: float = 0.0,
        first_layer: int = 0,
    ) -> Features:
        """Return each group's (layer, index, mean activation) by the rule of this module.

        Args:
            least_share: Least part of a feature's summed means that falls on the group.
            least_fired: Least part of the group's prompts on which it fires.
            peaks: Per layer, the highest activation of each feature (features,); layers that
                it lacks are left out.
            least_peak: Least part of its peak that the mean must be.
            first_layer: Where to begin; what layer 0 does depends on one token alone.
        """
        found: dict[Hashable, list[tuple[int, int, float]]] = {key: [] for key in self.sums}
        counts = torch.tensor([self.counts[key] for key in self.sums])[:, None]
        every = next(iter(self.sums.values()))
        for layer in range(first_layer, len(every if peaks is None else peaks)):
            mean = torch.stack([sums[layer] for sums in self.sums.values()]) / counts
            rate = torch.stack([fired[layer] for fired in self.fired.values()]) / counts
            part = mean / (mean.sum(0) + 1e-6)
            chosen = (part > least_share) & (rate >= least_fired)
            if peaks is not None:
                chosen &= mean >= least_peak * peaks[layer]
            for row, key in enumerate(self.sums):
                for index in chosen[row].nonzero()[:, 0].tolist():
                    found[key].append((layer, index, round(mean[row, index].item(), 4)))
        return {key: tuple(features) for key, features in found.items() if features}


def find_concepts(
    model: LlamaForCausalLM, transcoders: Sequence[Transcoder], corpus: Corpus, samples: Samples
) -> tuple[dict[str, Concept], float]:
    """Return all concepts by name, and the share that was chosen for *say X*."""
    inputs = zip(transcoders, samples.inputs, strict=True)
    peaks = [transcoder.encode(read).amax(0) for transcoder, read in inputs]
    before = peaks[:-1]
    at_city, at_end, by_relation, at_word = _read(model, transcoders, corpus)
    found: dict[str, Concept] = {}
    kind_of = {place.name: place.kind for place in corpus.world.places}
    for name, features in at_city.select(PLACE_SHARE, peaks=before, least_peak=PLACE_PEAK).items():
        found[str(name)] = Concept(str(name), kind_of[str(name)], features)
    for relation, features in at_word.select(
        RELATION_SHARE, RELATION_FIRES, peaks=before, least_peak=RELATION_PEAK
    ).items():
        found[str(relation)] = Concept(str(relation), "relation", features)
    saying: dict[str, Any] = {"peaks": peaks, "least_peak": SAY_PEAK, "first_layer": 1}
    for relation, features in by_relation.select(RELATION_SHARE, RELATION_FIRES, **saying).items():
        name = f"say {'an' if str(relation)[0] in 'aeiou' else 'a'} {relation}"
        found[name] = Concept(name, "say a relation", features)
    options = {least: _says(at_end.select(least, **saying)) for least in SAY_SHARES}
    best = choose_say_share(model, transcoders, corpus, options)
    return found | options[best], best


def choose_say_share(
    model: LlamaForCausalLM,
    transcoders: Sequence[Transcoder],
    corpus: Corpus,
    options: dict[float, dict[str, Concept]],
) -> float:
    """Return the share under which *say X* does most on training cities.

    What it does: the share of answers removed at ×0 plus the share of ordered pairs swapped
    at ×1, on one training city a state.
    """
    prompts = two_hop(corpus, "state", "capital", held_out=False)
    prompts = prompts.take([prompts.places.index(p) for p in corpus.world.of_kind("state")])
    wanted = capitals(corpus, "state")
    scores = {}
    for option, concepts in options.items():
        subject = Subject(model, transcoders, concepts)
        asked = answered_right(subject, prompts)
        off = removed(subject, asked, factor=0.0, say=True)
        over = swapped(subject, asked, wanted, factor=1.0, say=True)
        scores[option] = share(off) + share(over)
    return max(scores, key=lambda option: scores[option])


def capitals(corpus: Corpus, kind: str) -> dict[str, tuple[str, int]]:
    """Return capital and token of the capital by place name."""
    places = corpus.world.of_kind(kind)
    return {place.name: (place.capital, corpus.token(place.capital)) for place in places}


def _says(chosen: Features) -> dict[str, Concept]:
    return {f"say {key}": Concept(f"say {key}", "say", f) for key, f in chosen.items()}


def _read(
    model: LlamaForCausalLM, transcoders: Sequence[Transcoder], corpus: Corpus
) -> tuple[Means, Means, Means, Means]:
    """Return means at the city by place, at the end by answer and by relation, at the word."""
    at_city, at_end, by_relation, at_word = Means(), Means(), Means(), Means()
    for kind in KINDS:
        for relation in ("name", *corpus.world.relations(kind)):
            if relation == "name":
                prompts = one_hop(corpus, kind, held_out=False)
            else:
                prompts = two_hop(corpus, kind, relation, held_out=False)
            names = [place.name for place in prompts.places]
            answers = [corpus.words[int(token)].strip() for token in prompts.answers]
            end = activations(model, transcoders, prompts, -1)
            at_end.add(answers, end)
            if relation == "name":
                continue
            by_relation.add([relation] * len(prompts), end)
            word = activations(model, transcoders, prompts.take([0]), WORD_POSITION)
            at_word.add([relation], word)
            if relation == "capital":
                city = activations(model, transcoders, prompts, prompts.city_position)
                at_city.add(names, city)
    return at_city, at_end, by_relation, at_word
