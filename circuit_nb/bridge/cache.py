"""The key-value cache of generated text: handed to every layer by ourselves, and checked.

transformers hands its cache from layer to layer under one name, and TransformerLens looks for it
in every attention layer under the names it knows. A release of either can part the two without an
error: nothing is kept, and every generated token sees itself alone. So the name is left out of
it: each attention layer is handed the cache itself, and what comes out is checked, first by how
much was kept, then, once for a length of text, against a pass without a cache.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from circuit_nb.bridge.passes import Feed
from circuit_nb.bridge.protocol import Bridge, parts_of

_LOOKED_FOR = "past_key_values"
"""Where TransformerLens's attention looks for the cache, whatever transformers calls it."""


class CacheLost(RuntimeError):
    """A cached pass did not see the tokens before it: its logits are not to be used."""


class KeyValues:
    """Keys and values of the tokens that a model was fed, every layer's, for one batch.

    Args:
        bridge: The TransformerLens bridge.
    """

    def __init__(self, bridge: Bridge) -> None:
        from transformers import DynamicCache

        self._bridge = bridge
        model: Any = bridge.original_model
        self._held: Any = DynamicCache(config=model.config)
        self.positions = 0
        """How many tokens were fed."""

    @property
    def arguments(self) -> dict[str, Any]:
        """What the model's forward pass is given, under the names this release has for it."""
        known = inspect.signature(self._bridge.original_model.forward).parameters
        return {"use_cache": True, "cache" if "cache" in known else "past_key_values": self._held}

    @property
    def feeds(self) -> list[Feed]:
        """Hands the cache to every attention layer, where it looks for it."""

        def hand(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if kwargs.get(_LOOKED_FOR) is None:
                return args, {**kwargs, _LOOKED_FOR: self._held}
            return None

        return [(block.attn, hand) for block in parts_of(self._bridge).blocks]

    def check_grown(self, fed: int) -> None:
        """Count the tokens of a pass, and see that every layer kept them.

        Raises:
            CacheLost: If one did not.
        """
        self.positions += fed
        for layer in range(len(parts_of(self._bridge).blocks)):
            kept = int(self._held.get_seq_length(layer))
            if kept != self.positions:
                raise CacheLost(f"layer {layer} kept {kept} of {self.positions} tokens")


class CachedPasses:
    """Passes with a cache, as long as they can be trusted; one for each model.

    Args:
        bridge: The TransformerLens bridge.
        name: The model's name, for the warning.
    """

    def __init__(self, bridge: Bridge, name: str) -> None:
        self._bridge, self._name = bridge, name
        self._compared = 0
        self.trusted = True
        """Whether caches are used; once one was found wrong, no more."""

    def run(
        self, run: Callable[..., Tensor], fed: int, cache: KeyValues | None
    ) -> tuple[Tensor, KeyValues]:
        """One pass with a cache.

        Args:
            run: The pass, which takes what is to be handed to modules, and further arguments of
                the model's forward pass.
            fed: How many tokens it is fed, in each row.
            cache: What was fed before; None for the first pass.

        Returns:
            The logits, and the cache with these tokens added.

        Raises:
            CacheLost: If the cache was not kept, or a release does not know what is asked of it.
        """
        try:
            cache = cache or KeyValues(self._bridge)
            logits = run(cache.feeds, **cache.arguments)
            cache.check_grown(fed)
        except (TypeError, AttributeError, ImportError) as error:
            raise CacheLost(str(error)) from error
        return logits, cache

    def uncompared(self, context: int) -> bool:
        """Whether no step after this many tokens was ever compared with a pass without a cache."""
        return context > self._compared

    def compare(self, cached: Tensor, anew: Tensor, context: int) -> None:
        """Compare a step's logits (rows, vocab) with those of a pass without a cache.

        Rounding apart they are equal: to the square root of the type's step, of the largest. One
        row is enough, since a cache is every row's, while an edited feature near its threshold
        can be on in one pass and off in the other.

        Raises:
            CacheLost: If they are not; otherwise caches are trusted up to this length.
        """
        exact = anew.float()
        scale = (exact - exact.mean(-1, keepdim=True)).abs().amax(-1)
        apart = (cached.float() - exact).abs().amax(-1) / scale.clamp(min=1e-20)
        if not bool((apart <= torch.finfo(anew.dtype).eps ** 0.5).any()):
            raise CacheLost("the token after it is not what it is without one")
        self._compared = context

    def give_up(self, lost: CacheLost) -> None:
        """Use no cache from here on, and say so, once a pass without one has succeeded."""
        if not self.trusted:
            return
        self.trusted = False
        warnings.warn(
            f"The key-value cache of {self._name} does not work with transformers "
            f"{_version('transformers')} and TransformerLens {_version('transformer-lens')} "
            f"({str(lost)[:120]}). Text is generated without it: the same, but slower.",
            stacklevel=2,
        )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
