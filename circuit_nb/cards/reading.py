"""Texts on their way through a model, a thousand tokens at once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from circuit_nb.cards.tallies import Tally
from circuit_nb.cards.types import Example, Key
from circuit_nb.files import check_writable, said, shown, write_tensors
from circuit_nb.model.padding import alike
from circuit_nb.model.replacement import Hook, ReplacementModel

_TOKENS = 1024
"""Tokens read at once, at most."""
_POOLED = 8
"""Passes whose pieces are sorted by length together: passes are full then, and little is padded."""
_VALUES = 2**24
"""Activations of a layer that are looked at together, at most."""
_EVERY = 60.0
"""Seconds after which what was found is kept on disk."""
_ORDER = 1
"""Changes where pieces are read in another order, with which no file of before is gone on with."""
_OTHERS = (
    "{} was kept for other texts, another model, or other settings; give another file, or remove "
    "it to begin anew."
)

Piece: TypeAlias = tuple[int, int, list[int]]
"""Number of a piece, how many of its first positions do not count, and its token ids."""


class Reading:
    """Texts on their way through a model.

    Args:
        model: The model.
        wanted: The features wanted; all if `None`.
        width: Tokens of a piece, at most.
        resume: Where what was found is kept.
    """

    def __init__(
        self,
        model: ReplacementModel,
        wanted: Sequence[Key] | None,
        width: int,
        resume: str | os.PathLike[str] | None,
    ) -> None:
        self.model = model
        layers = range(model.transcoders.n_layers)

        def of(layer: int) -> list[int] | None:
            return None if wanted is None else [i for at, i in wanted if at == layer]

        self.tallies = [Tally(width, of(layer)) for layer in layers]
        largest = max(len(t.b_enc) for t in model.transcoders.layers)
        self.at_once = max(width, min(_TOKENS, _VALUES // largest))
        self.seen: list[list[int]] = []
        self.tokens = self._passed = 0
        self._told = hashlib.sha256()
        self._token = cache(model.token)
        self._words: dict[int, tuple[str, ...]] = {}
        self._file = None if resume is None else Path(resume)
        self._kept, self._done = time.monotonic(), 0
        self._expected = ""
        if self._file is not None:
            check_writable(self._file)
            origin = (_ORDER, model.name, model.transcoders.source, width, wanted)
            self._run = hashlib.sha256(repr(origin).encode()).hexdigest()
            if self._file.is_file():
                self._done, self._expected = _restore(self._file, self.tallies, self._run)

    @property
    def pool(self) -> int:
        """How many tokens' pieces are best taken in together."""
        return _POOLED * self.at_once

    def read(self, pieces: Sequence[list[int]], progress: Callable[[int], object]) -> None:
        """Take in pieces; those that were read before the last stop are only counted.

        Args:
            pieces: Token ids of each.
            progress: Called with the number of pieces done since it was last called.
        """
        first = len(self.seen)
        self.seen += pieces
        ignored = [_ignored(self.model, ids) for ids in pieces]
        self.tokens += sum(len(ids) - n for ids, n in zip(pieces, ignored, strict=True))
        for rows in alike([len(ids) for ids in pieces], self.at_once):
            self._next([(first + i, ignored[i], pieces[i]) for i in rows])
            progress(len(rows))

    def _next(self, pieces: Sequence[Piece]) -> None:
        """Read the pieces of the next pass, unless that was done before the last stop."""
        for number, _, ids in pieces:
            self._told.update(repr((number, ids)).encode())
        before, self._passed = self._passed, self._passed + len(pieces)
        if before < self._done:
            other = self._passed == self._done and self._told.hexdigest() != self._expected
            if other or self._passed > self._done:
                self._refuse()
            return
        self._pass(pieces)
        if self._file is not None and time.monotonic() - self._kept > _EVERY:
            _keep(self._file, self.tallies, self._run, self._passed, self._told.hexdigest())
            self._kept = time.monotonic()

    def _pass(self, pieces: Sequence[Piece]) -> None:
        longest = max(len(ids) for _, _, ids in pieces)
        ids = torch.tensor([ids + [0] * (longest - len(ids)) for _, _, ids in pieces])
        places = torch.arange(longest)
        starts = torch.tensor([ignored for _, ignored, _ in pieces])[:, None]
        ends = torch.tensor([len(ids) for _, _, ids in pieces])[:, None]
        counted = (places >= starts) & (places < ends)
        numbers = torch.tensor([number for number, _, _ in pieces])
        t = self.model.transcoders
        reads: dict[int, Tensor] = {}

        def take(tensor: Tensor, hook: Any, layer: int) -> None:
            x = tensor.detach()[counted.to(tensor.device)]
            if t.joint_k is None:
                tell(layer, x, None)
            else:  # Which features are on is known when the last layer was read.
                reads[layer] = x

        def tell(layer: int, x: Tensor, cut: Tensor | None) -> None:
            own = t.layers[layer]
            token, feature, value = own.active(own.pre_activations(x), cut)
            active = token.cpu(), feature.cpu(), value.float().cpu()
            self.tallies[layer].add(active, counted, numbers)

        hooks: list[Hook] = [
            (block.hook(t.input_hook), partial(take, layer=i))
            for i, block in enumerate(self.model.blocks)
        ]
        self.model.run(ids.to(self.model.device), hooks, last_only=True)
        cut = t.cut(list(reads.values())) if reads else None
        for layer, x in reads.items():
            tell(layer, x, cut)

    def example(self, piece: int, activations: Sequence[float]) -> Example:
        """A piece as an example."""
        if piece not in self._words:
            token = self._token
            self._words[piece] = tuple(token(i) for i in self.seen[piece])
        words = self._words[piece]
        # Most are 0: one object stands for all of those.
        return Example(words, tuple(value or 0.0 for value in activations[: len(words)]))

    def given_up(self) -> Iterator[Tally]:
        """What was found at each layer, which is not kept here any longer."""
        while self.tallies:
            yield self.tallies.pop(0)

    def end(self) -> None:
        """All texts were read."""
        if self._passed < self._done:
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(_OTHERS.format(self._file))

    def forget(self) -> None:
        """Remove what was kept on disk."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def _ignored(model: ReplacementModel, ids: Sequence[int]) -> int:
    return model.ignored_positions(torch.tensor(ids[:8]))


def _keep(path: Path, tallies: Sequence[Tally], run: str, pieces: int, texts: str) -> None:
    arrays = {
        f"{layer}.{name}": getattr(tally, name).contiguous().numpy()
        for layer, tally in enumerate(tallies)
        for name in tally.NAMES
    }
    write_tensors(path, arrays, {"run": run, "pieces": str(pieces), "texts": texts})


def _restore(path: Path, tallies: Sequence[Tally], run: str) -> tuple[int, str]:
    """Read what was kept into tallies; returns the number of pieces, and what tells them."""
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            if told.get("run") != run:
                raise ValueError(_OTHERS.format(shown(path)))
            for layer, tally in enumerate(tallies):
                for name in tally.NAMES:
                    setattr(tally, name, file.get_tensor(f"{layer}.{name}"))
            return int(told["pieces"]), told["texts"]
    except (SafetensorError, KeyError) as error:
        problem = f"{shown(path)} cannot be read ({said(error)})"
        raise ValueError(f"{problem}; remove it to begin anew.") from error
