"""What is used of TransformerLens's bridge, and nothing else.

An upgrade that takes one of these away, or changes how it is called, fails in the type check (see
`_fits` at the end) and in `tests/bridge/test_protocol.py`, and not in a reader's notebook.
Parts that TransformerLens finds by `__getattr__` (`blocks`, `ln_final`, `unembed`) cannot be
declared on the bridge for the checker; `parts_of` names them in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn


class HookPoint(Protocol):
    """A place in the model that shows the tensor that goes by."""

    name: str | None
    hook_conversion: Any
    """Between the model's layout and the one that is shown; None where they are the same."""
    fwd_hooks: Any
    """Hooks that were put there through TransformerLens."""
    _forward_hooks: Any
    """All hooks by PyTorch's number: the list that it goes by. Before a pass:"""
    _forward_pre_hooks: Any
    _forward_pre_hooks_with_kwargs: Any

    def register_forward_hook(self, hook: Callable[..., Any], /) -> Any:
        """Put a hook there, PyTorch's way."""
        ...


class Config(Protocol):
    """What the bridge says of the model."""

    architecture: str | None
    """Name of the Hugging Face class."""
    model_name: str
    d_model: int
    n_ctx: int
    """Positions the model was made for."""


class Adapter(Protocol):
    """What TransformerLens knows of the family."""

    def apply_output_logits_transform(self, logits: Tensor) -> Tensor:
        """The softcap, where the model has one."""
        ...


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    bos_token_id: int | None
    pad_token_id: int | None
    eos_token_id: int | None
    unk_token_id: int | None
    unk_token: Any
    all_special_ids: list[int]
    chat_template: Any

    def __call__(self, text: str, **options: Any) -> Any:
        """Ids, and where each lies in the text."""
        ...

    def decode(self, token_ids: Any, **options: Any) -> Any:
        """Ids as text."""
        ...

    def get_vocab(self) -> dict[str, int]:
        """Every entry and its id."""
        ...

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """A conversation as text."""
        ...


class Bridge(Protocol):
    """A language model as TransformerLens shows it."""

    compatibility_mode: bool
    """Whether hooks have the names of the old HookedTransformer too."""
    _weights_processed: bool
    """Whether norms are folded into other weights, and weights centred."""

    @property
    def cfg(self) -> Config:
        """What it says of the model."""
        ...

    @property
    def adapter(self) -> Adapter:
        """What it knows of the family."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer, a `Tokenizer`; TransformerLens leaves its type open."""
        ...

    @property
    def original_model(self) -> nn.Module:
        """The Hugging Face model."""
        ...

    @property
    def W_U(self) -> Tensor:
        """The unembedding, (d_model, vocab)."""
        ...

    @property
    def hook_dict(self) -> Mapping[str, HookPoint]:
        """Every hook point by its names."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Itself and its parts, hook points included."""
        ...

    def check_hooks_to_add(
        self, hook_point: Any, hook_point_name: str, hook: Callable[..., Any]
    ) -> None:
        """Refuse a place that is switched off in the bridge's settings."""
        ...

    def forward(self, input: Any, return_type: str | None = ..., **options: Any) -> Any:
        """One pass."""
        ...


class NormPart(Protocol):
    """A norm."""

    @property
    def uses_weight_offset(self) -> bool:
        """Whether the factor is 1 + weight."""
        ...

    @property
    def uses_rms_norm(self) -> bool:
        """Whether the mean stays."""
        ...


class AttentionPart(Protocol):
    """An attention layer."""

    @property
    def W_V(self) -> Any:
        """(key-value heads, d_model, d_head)."""
        ...

    @property
    def W_O(self) -> Any:
        """(heads, d_head, d_model)."""
        ...


class MLPPart(Protocol):
    """An MLP."""

    @property
    def W_in(self) -> Tensor:
        """(d_model, d_mlp)."""
        ...

    @property
    def W_gate(self) -> Tensor | None:
        """(d_model, d_mlp); None where there is no gate."""
        ...

    @property
    def W_out(self) -> Tensor:
        """(d_mlp, d_model)."""
        ...


class BlockPart(Protocol):
    """A block."""

    submodules: Any
    """Its parts by name."""
    hook_aliases: Any
    """Where each hook of a common name is, within the block."""


@dataclass(frozen=True)
class Parts:
    """The parts of a bridge that it has no declared names for."""

    blocks: Sequence[Any]
    """Of each layer its `BlockPart`, with the `AttentionPart` `attn`, the `MLPPart` `mlp` and norms
    in it."""
    final_norm: Any
    """A `NormPart` with its weight."""
    unembed: Callable[[Tensor], Tensor]
    """From the normed residual stream to logits before any softcap."""


def parts_of(bridge: Bridge) -> Parts:
    """Blocks, last norm and unembedding of a bridge."""
    found: Any = bridge
    return Parts(found.blocks, found.ln_final, found.unembed)


if TYPE_CHECKING:
    from transformer_lens.hook_points import HookPoint as _HookPoint
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.generalized_components import (
        AttentionBridge,
        BlockBridge,
        MLPBridge,
        NormalizationBridge,
    )

    def _fits(  # pyright: ignore[reportUnusedFunction]
        bridge: TransformerBridge,
        block: BlockBridge,
        attention: AttentionBridge,
        mlp: MLPBridge,
        norm: NormalizationBridge,
        point: _HookPoint,
    ) -> tuple[Bridge, BlockPart, AttentionPart, MLPPart, NormPart, HookPoint]:
        return bridge, block, attention, mlp, norm, point
