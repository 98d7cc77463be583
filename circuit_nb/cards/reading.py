"""Texts on their way through a model, a few thousand tokens at once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

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
_VALUES = 2**24
"""Activations of a layer that are looked at together, at most."""
_EVERY = 60.0
"""Seconds after which what was found is kept on disk."""
_OTHERS = (
    "{} was kept for other texts, another model, or other settings; give another file, or remove "
    "it to begin anew."
)


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
        self.tokens = 0
        self._told = hashlib.sha256()
        self._token = cache(model.token)
        self._words: dict[int, tuple[str, ...]] = {}
        self._file = None if resume is None else Path(resume)
        self._kept, self._done = time.monotonic(), 0
        self._expected = ""
        if self._file is not None:
            check_writable(self._file)
            origin = (model.name, model.transcoders.source, width, wanted)
            self._run = hashlib.sha256(repr(origin).encode()).hexdigest()
            if self._file.is_file():
                self._done, self._expected = _restore(self._file, self.tallies, self._run)

    def read(self, pieces: Sequence[list[int]]) -> None:
        """Take in pieces; those that were read before the last stop are only counted."""
        first = len(self.seen)
        for ids in pieces:
            self.seen.append(ids)
            self._told.update(repr(ids).encode())
        ignored = [_ignored(self.model, ids) for ids in pieces]
        self.tokens += sum(len(ids) - n for ids, n in zip(pieces, ignored, strict=True))
        if len(self.seen) <= self._done:
            if len(self.seen) == self._done and self._told.hexdigest() != self._expected:
                self._refuse()
            return
        self._pass(pieces, ignored, first)
        if self._file is not None and time.monotonic() - self._kept > _EVERY:
            _keep(self._file, self.tallies, self._run, len(self.seen), self._told.hexdigest())
            self._kept = time.monotonic()

    def _pass(self, pieces: Sequence[list[int]], ignored: Sequence[int], first: int) -> None:
        for rows in alike([len(ids) for ids in pieces]):
            width = len(pieces[rows[0]])
            ids = torch.tensor([pieces[i] + [0] * (width - len(pieces[i])) for i in rows])
            places = torch.arange(width)
            starts = torch.tensor([ignored[i] for i in rows])[:, None]
            ends = torch.tensor([len(pieces[i]) for i in rows])[:, None]
            counted = ((places >= starts) & (places < ends)).to(self.model.device)
            numbers = torch.tensor([first + i for i in rows])
            tell = partial(self._tell, counted=counted, numbers=numbers)
            self._reads_of(ids.to(self.model.device), tell)

    def _reads_of(self, ids: Tensor, tell: Callable[[Tensor, int, Tensor | None], None]) -> None:
        """Run texts and tell what each layer read, with the cut if there is one, and the layer."""
        t, reads = self.model.transcoders, dict[int, Tensor]()

        def take(x: Tensor, hook: Any, layer: int) -> None:
            if t.joint_k is None:
                tell(x, layer, None)
            else:  # Which features are on is known when the last layer was read.
                reads[layer] = x.detach()

        hooks: list[Hook] = [
            (block.hook(t.input_hook), partial(take, layer=i))
            for i, block in enumerate(self.model.blocks)
        ]
        self.model.run(ids, hooks, last_only=True)
        cut = t.cut(list(reads.values())) if reads else None
        for layer, x in reads.items():
            tell(x, layer, cut)

    def _tell(
        self, x: Tensor, layer: int, cut: Tensor | None, counted: Tensor, numbers: Tensor
    ) -> None:
        transcoder = self.model.transcoders.layers[layer]
        found = transcoder.activate(transcoder.pre_activations(x), cut)
        self.tallies[layer].add(found.masked_fill(~counted[..., None], 0), numbers)

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
        if len(self.seen) < self._done:
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
