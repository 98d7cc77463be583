"""Cards computed from the reader's own texts, one pass over them, nothing kept but the best."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from circuit_nb.cards.effects import Effects, logit_effects
from circuit_nb.cards.packing import Packed, pack
from circuit_nb.cards.storage import CardSet
from circuit_nb.cards.types import FeatureCard, Key, named_by

if TYPE_CHECKING:
    from circuit_nb.cards.reading import Reading
    from circuit_nb.model.replacement import ReplacementModel


def compute(
    model: ReplacementModel,
    texts: Iterable[str | Sequence[int]],
    *,
    keys: Iterable[Key] | None = None,
    effects: int = 10,
    max_tokens: int = 64,
    name: Callable[[FeatureCard], str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> CardSet:
    """Make cards of the features that are active in texts.

    Texts are read a few at a time, so `texts` may be a generator over a corpus larger than memory;
    long ones are cut into pieces of `max_tokens`. What is kept takes about 2 KB a feature that
    was ever active, and 40 bytes a token.

    Args:
        model: The model.
        texts: What to read: texts, or token ids.
        keys: (layer, index) of the features wanted; by default every one that is ever active.
        effects: How many tokens to list that it raises and lowers most; 0 leaves them out, which
            saves much of the time on large vocabularies.
        max_tokens: Length of a piece, the special token at its begin included.
        name: What a feature is called, told by its card, which has everything but a label; by
            default a plain label says what it fires on and, where that stands out from the
            vocabulary, what it promotes.
        resume: File in which what was found is kept every minute. Stopped and called again with
            the same arguments, it goes on from there; at the end the file is removed.
        progress: Whether to show progress bars.

    Returns:
        Cards with labels, the five pieces that activate each feature most, densities, histograms
        and logit effects.

    Raises:
        ValueError: If there are no texts, pieces would be empty, or `resume` is of other texts.
        OSError: If `resume` cannot be written, told before anything is read.
    """
    if max_tokens < 2:
        raise ValueError(f"max_tokens is {max_tokens}; give at least 2.")
    from tqdm.auto import tqdm

    from circuit_nb.cards.reading import Reading

    wanted = None if keys is None else sorted(set(keys))
    reading = Reading(model, wanted, max_tokens, resume)
    bar = tqdm(desc="texts", unit="piece", disable=not progress)
    with bar:
        for pieces in _together(_pieces(model, texts, max_tokens), reading.pool):
            reading.read(pieces, bar.update)
    reading.end()
    if not reading.seen:
        raise ValueError("There are no texts to compute cards from; give at least one.")
    cards = _cards(reading, effects, name, progress=progress)
    reading.forget()
    settings = {"pieces": len(reading.seen), "tokens": reading.tokens, "max_tokens": max_tokens}
    origin = {"model": model.name, "transcoders": model.transcoders.source}
    return CardSet(cards, {**origin, **settings})


def _cards(
    reading: Reading, effects: int, name: Callable[[FeatureCard], str] | None, *, progress: bool
) -> Packed:
    """Cards of all features that fired, by key; made layer by layer: little is held twice."""
    from tqdm.auto import tqdm

    total = sum(len(tally.features) for tally in reading.tallies)
    with tqdm(total=total, desc="cards", unit="feature", disable=not progress) as bar:
        return pack(_each(reading, effects, name, bar.update))


def _each(
    reading: Reading,
    effects: int,
    name: Callable[[FeatureCard], str] | None,
    progress: Callable[[int], object],
) -> Iterator[tuple[Key, FeatureCard]]:
    for layer, tally in enumerate(reading.given_up()):
        every = sorted(tally.found(), key=lambda each: each.feature)
        keys = [(layer, each.feature) for each in every]
        told: dict[Key, Effects] = {}
        if effects:  # Nearly all of the time: the bar tells of them, not of the cards.
            told = logit_effects(reading.model, keys, top_k=effects, progress=progress)
        for key, each in zip(keys, every, strict=True):
            promotes, suppresses, telling = told.get(key, Effects((), (), 0))
            card = FeatureCard(
                examples=tuple(reading.example(*example) for example in each.strongest),
                promotes=promotes,
                suppresses=suppresses,
                density=each.tokens / reading.tokens,
                histogram=each.histogram,
                source="computed",
            )
            label = name(card) if name else named_by(card, telling)
            yield key, replace(card, label=label)
        if not effects:
            progress(len(keys))


def _pieces(
    model: ReplacementModel, texts: Iterable[str | Sequence[int]], max_tokens: int
) -> Iterator[list[int]]:
    """Token ids of the texts' pieces, each beginning with the special token; empty ones skipped."""
    for text in texts:
        if isinstance(text, str) and not text.strip():
            continue
        first, *rest = model.tokenize(text).tolist()
        for start in range(0, len(rest), max_tokens - 1):
            yield [first, *rest[start : start + max_tokens - 1]]


def _together(pieces: Iterator[list[int]], tokens: int) -> Iterator[list[list[int]]]:
    """Pieces in lists of about so many tokens."""
    taken: list[list[int]] = []
    count = 0
    for piece in pieces:
        taken.append(piece)
        count += len(piece)
        if count >= tokens:
            yield taken
            taken, count = [], 0
    if taken:
        yield taken
