"""What switching concepts does to the model's answers, over many prompts at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from circuit_nb.atlas.making.probe import Transcoder, change_features, replace_mlps, run
from circuit_nb.atlas.making.prompts import Prompts
from circuit_nb.atlas.shipped import Concept

CHUNK = 500
"""Rows run at once."""


@dataclass(frozen=True)
class Table:
    """Concepts as tensors, one row a concept."""

    chosen: tuple[Tensor, ...]
    """Per layer, which features belong (concepts, features)."""
    usual: tuple[Tensor, ...]
    """Per layer, their usual activations (concepts, features)."""


@dataclass(frozen=True)
class Subject:
    """The model under test."""

    model: LlamaForCausalLM
    transcoders: Sequence[Transcoder]
    concepts: Mapping[str, Concept]

    def table(self, names: Sequence[str]) -> Table:
        """Return the named concepts as tensors; an unknown name is a concept without features."""
        usual = [torch.zeros(len(names), len(t.threshold)) for t in self.transcoders]
        for row, name in enumerate(names):
            if name in self.concepts:
                for layer, index, value in self.concepts[name].features:
                    usual[layer][row, index] = value
        return Table(tuple(value > 0 for value in usual), tuple(usual))

    @torch.no_grad()
    def answer(self, prompts: Prompts) -> Tensor:
        """Return the next-token logits (rows, vocab)."""
        return run(self.model, prompts.tokens, keep=1).logits[:, -1]

    @torch.no_grad()
    def answer_replaced(self, prompts: Prompts) -> Tensor:
        """Return the logits (rows, vocab) with every MLP replaced by its transcoder."""
        return run(self.model, prompts.tokens, replace_mlps(self.transcoders), keep=1).logits[:, -1]

    @torch.no_grad()
    def answer_scaled(
        self, prompts: Prompts, names: Sequence[str], position: int, factor: float
    ) -> Tensor:
        """Return the logits (rows, vocab) with each row's concept scaled at a position."""
        table = self.table(names)

        def change(layer: int, values: Tensor) -> Tensor:
            return torch.where(table.chosen[layer], values * factor, values)

        return self._edited(prompts, position, change)

    @torch.no_grad()
    def answer_swapped(
        self,
        prompts: Prompts,
        off: Sequence[str],
        on: Sequence[str],
        position: int,
        factor: float = 1.0,
    ) -> Tensor:
        """Return the logits (rows, vocab) with each row's concept `off` switched off and its
        concept `on` set to `factor` × its usual activations, at a position.
        """
        before, after = self.table(off), self.table(on)

        def change(layer: int, values: Tensor) -> Tensor:
            left = values.masked_fill(before.chosen[layer], 0.0)
            return torch.where(after.chosen[layer], factor * after.usual[layer], left)

        return self._edited(prompts, position, change)

    def _edited(
        self, prompts: Prompts, position: int, change: Callable[[int, Tensor], Tensor]
    ) -> Tensor:
        edit = change_features(self.transcoders, position, change)
        return run(self.model, prompts.tokens, edit, keep=1).logits[:, -1]


def share(mask: Tensor) -> float:
    """Return the share of true entries, rounded to four digits."""
    return round(mask.float().mean().item(), 4)


LEAD = 1e-3
"""An answer that leads by less than this probability is one of many: it is not given."""


def removed(subject: Subject, prompts: Prompts, *, factor: float, say: bool = False) -> Tensor:
    """Return whether scaling the row's own concept takes the right answer away (rows,).

    Args:
        subject: The model under test.
        prompts: Two-hop capital prompts that the model answers right.
        factor: 0 switches off, -1 turns around.
        say: Scale `say CAPITAL` at the last position, rather than the place at its city.
    """
    names = [_concept_name(place.name, place.capital, say) for place in prompts.places]
    position = -1 if say else prompts.city_position
    likely = subject.answer_scaled(prompts, names, position, factor).softmax(-1)
    right = likely.gather(1, prompts.answers[:, None])
    others = likely.scatter(1, prompts.answers[:, None], 0.0).amax(1)
    return right[:, 0] < others + LEAD


def swapped(
    subject: Subject,
    prompts: Prompts,
    wanted: Mapping[str, tuple[str, int]],
    *,
    factor: float,
    say: bool = False,
) -> Tensor:
    """Return whether swapping in another place gives its capital, over all ordered pairs.

    Args:
        subject: The model under test.
        prompts: Two-hop capital prompts that the model answers right.
        wanted: Capital and its token by place name.
        factor: Strength of what is swapped in.
        say: Swap `say CAPITAL` at the last position, rather than the place at its city.
    """
    pairs = [
        (row, name)
        for row, place in enumerate(prompts.places)
        for name in wanted
        if name != place.name
    ]
    position = -1 if say else prompts.city_position
    answered: list[Tensor] = []
    for start in range(0, len(pairs), CHUNK):
        part = pairs[start : start + CHUNK]
        rows = prompts.take([row for row, _ in part])
        off = [_concept_name(place.name, place.capital, say) for place in rows.places]
        on = [_concept_name(name, wanted[name][0], say) for _, name in part]
        logits = subject.answer_swapped(rows, off, on, position, factor)
        answered.append(logits.argmax(-1))
    return torch.cat(answered) == torch.tensor([wanted[name][1] for _, name in pairs])


def answered_right(subject: Subject, prompts: Prompts) -> Prompts:
    """Return the prompts that the model answers right."""
    right = subject.answer(prompts).argmax(-1) == prompts.answers
    return prompts.take(right.nonzero()[:, 0].tolist())


def _concept_name(place: str, capital: str, say: bool) -> str:
    return f"say {capital}" if say else place
