"""Texts read once, in which any feature's strongest places are then found in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from circuit_nb.atlas import shipped_with
from circuit_nb.cards.types import Example

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_nb.model.replacement import ReplacementModel

_BATCH = 128
_EVERY = 23
"""One of so many sentences of the embedded model's corpus is read: some of every place."""


class Texts:
    """What a model's features read in some texts, kept in memory.

    Args:
        model: The model.
        texts: A few hundred short ones; for more there is `circuit_nb.cards.compute`.

    Raises:
        ValueError: If there are none, or one is not a prompt.
    """

    def __init__(self, model: ReplacementModel, texts: Iterable[str]) -> None:
        import torch

        rows = [model.tokenize(text) for text in texts]
        if not rows:
            raise ValueError("There are no texts to read; give at least one.")
        self._transcoders = model.transcoders
        self._tokens = [tuple(model.token(i) for i in row.tolist()) for row in rows]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        places = torch.arange(ids.shape[1], device=ids.device)
        first = torch.tensor([[model.ignored_positions(row)] for row in rows], device=ids.device)
        end = torch.tensor([[len(row)] for row in rows], device=ids.device)
        self._real = (places >= first) & (places < end)
        batches = [_reads(model, part) for part in ids.split(_BATCH)]
        self._reads = [torch.cat(layer) for layer in zip(*batches, strict=True)]
        cuts = [model.transcoders.cut(part) for part in batches]
        self._cut = None if cuts[0] is None else torch.cat([c for c in cuts if c is not None])

    def examples(self, layer: int, index: int, most: int = 5) -> tuple[Example, ...]:
        """The texts that activate a feature most, the strongest first; none where it is off.

        Raises:
            ValueError: If there is no such feature.
        """
        import torch

        self._transcoders.check(layer, index)
        which = torch.tensor([index], device=self._real.device)
        reads = self._reads[layer][..., None, :]
        cut = None if self._cut is None else self._cut[..., None]
        _, found = self._transcoders.layers[layer].of_features(reads, which, cut=cut)
        found = (found[..., 0] * self._real).clamp_min(0).float()
        peaks, texts = found.amax(1).sort(descending=True, stable=True)
        chosen = texts[: min(most, int((peaks > 0).sum()))].tolist()
        return tuple(
            Example(self._tokens[t], tuple(found[t, : len(self._tokens[t])].tolist()))
            for t in chosen
        )


def _reads(model: ReplacementModel, ids: Tensor) -> list[Tensor]:
    """What the features of each layer read, each (texts, positions, d_model)."""
    seen: dict[int, Tensor] = {}

    def keep(tensor: Tensor, hook: Any, layer: int) -> None:
        seen[layer] = tensor.detach()

    names = [block.hook(model.transcoders.input_hook) for block in model.blocks]
    model.run(ids, [(name, partial(keep, layer=i)) for i, name in enumerate(names)])
    return [seen[layer] for layer in range(len(names))]


_shipped: WeakKeyDictionary[ReplacementModel, Texts] = WeakKeyDictionary()


def shipped(model: ReplacementModel) -> Texts | None:
    """Texts that ship with an embedded model, read when first asked for; None for others."""
    found = shipped_with({"model": model.name})
    if found is None:
        return None
    with model.lock:
        if model not in _shipped:
            _shipped[model] = Texts(model, found.texts()[::_EVERY])
        return _shipped[model]
