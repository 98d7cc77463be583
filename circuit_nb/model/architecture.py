"""How each family of transformer blocks is read: its norms, its attention weights, its hooks.

TransformerLens names the parts of every family alike; what is left to say is written down here,
once. A family is known if its blocks are nothing but `attention + MLP` around norms whose
denominators can be frozen. To add one, put its name into `FAMILIES` and a tiny model of it into
`tests/families.py`: the completeness identity and the oracle then run on it by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuit_nb.bridge.protocol import AttentionPart, BlockPart, Bridge, NormPart, Parts


@dataclass(frozen=True)
class Family:
    """A family of models whose blocks the library knows how to read."""

    name: str
    architectures: tuple[str, ...]
    """Hugging Face class names."""
    ignored_prefix: tuple[str, ...] = ()
    """Tokens which, where a prompt begins with them, are ignored as position 0 is."""


FAMILIES = (
    Family("Gemma-2", ("Gemma2ForCausalLM",)),
    Family(
        "Gemma-3",
        ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
        ignored_prefix=("<bos>", "<start_of_turn>", "user", "\n"),
    ),
    Family("Llama", ("LlamaForCausalLM",)),
    Family("Qwen2", ("Qwen2ForCausalLM",)),
    Family("Qwen3", ("Qwen3ForCausalLM",)),
    Family("GPT-2", ("GPT2LMHeadModel",)),
    Family("GPT-NeoX", ("GPTNeoXForCausalLM",)),
)
"""Every family known; all others are refused."""


def family_of(bridge: Bridge) -> Family:
    """The family of a TransformerLens bridge.

    Raises:
        ValueError: If the family is not known.
    """
    architecture = str(bridge.cfg.architecture)
    for family in FAMILIES:
        if architecture in family.architectures:
            return family
    raise ValueError(
        f"Models of class {architecture} are not known; known are "
        f"{', '.join(f.name for f in FAMILIES)}. A new family is added in "
        "circuit_nb/model/architecture.py."
    )


@dataclass(frozen=True)
class Norm:
    """A norm whose denominator is frozen: a linear map, up to its bias."""

    hook: str
    """Where TransformerLens shows the denominator, (positions, 1)."""
    weight: Tensor
    """(d_model,), the factor applied after division."""
    centered: bool
    """Whether the mean over d_model is subtracted first (LayerNorm)."""

    def __call__(self, x: Tensor, scale: Tensor) -> Tensor:
        """The linear map, without its bias; shapes as in `transpose`."""
        return self.center(x) / scale * self.weight.to(x.dtype)

    def transpose(self, gradient: Tensor, scale: Tensor) -> Tensor:
        """Carry a gradient from the norm's output to its input, (…, d_model) both.

        Args:
            gradient: Gradient with respect to the output.
            scale: The frozen denominators, broadcastable to (…, 1).
        """
        return self.center(gradient * (self.weight.to(gradient.dtype) / scale))

    def center(self, gradient: Tensor) -> Tensor:
        """The transpose of subtracting the mean, which is the same map; (…, d_model)."""
        return gradient - gradient.mean(-1, keepdim=True) if self.centered else gradient


@dataclass(frozen=True)
class Block:
    """One layer: `x + attention(norm(x))`, then an MLP around which features read and write."""

    layer: int
    parallel: bool
    """Whether the MLP reads what attention reads, not what attention wrote (GPT-NeoX)."""
    attention_norm: Norm
    attention_post_norm: Norm | None
    mlp_norm: Norm
    mlp_post_norm: Norm | None
    W_V: Tensor
    """(key-value heads, d_model, d_head)."""
    W_O: Tensor
    """(heads, d_head, d_model)."""
    hooks: dict[str, str]
    """Full hook names of `pattern` and of every transcoder hook the block has."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.W_O.device

    @property
    def norms(self) -> tuple[Norm, ...]:
        """The norms the block has."""
        found = (
            self.attention_norm,
            self.attention_post_norm,
            self.mlp_norm,
            self.mlp_post_norm,
        )
        return tuple(norm for norm in found if norm is not None)

    def hook(self, name: str) -> str:
        """Full name of a transcoder hook.

        Raises:
            ValueError: If the block has no such place.
        """
        if name not in self.hooks:
            raise ValueError(
                f"This model's blocks have no {name} (attention and MLP run in parallel); use "
                "transcoders that read ln2.hook_normalized or mlp.hook_in."
            )
        return self.hooks[name]


def norm_of(module: NormPart, name: str) -> Norm:
    """A norm of the bridge; `name` is its full name, such as `blocks.0.ln1`."""
    weight: Tensor = getattr(module, "weight").detach()  # noqa: B009, its module's, not its own
    if module.uses_weight_offset:
        weight = weight.float() + 1
    return Norm(f"{name}.hook_scale", weight, centered=not module.uses_rms_norm)


def blocks_of(parts: Parts) -> tuple[Block, ...]:
    """Every block, in order.

    Raises:
        ValueError: If attention weights are not plain matrices, as in 4-bit models.
    """
    return tuple(_block(block, layer) for layer, block in enumerate(parts.blocks))


def _block(block: BlockPart, layer: int) -> Block:
    prefix = f"blocks.{layer}"
    has = block.submodules

    def norm(name: str) -> Norm | None:
        return norm_of(getattr(block, name), f"{prefix}.{name}") if name in has else None

    attention: AttentionPart = getattr(block, "attn")  # noqa: B009
    attention_norm, mlp_norm = norm("ln1"), norm("ln2")
    assert attention_norm is not None and mlp_norm is not None, sorted(has)
    aliases: dict[str, str] = block.hook_aliases
    hooks = {
        name: f"{prefix}.{aliases.get(name, name)}"
        for name in ("ln2.hook_normalized", "mlp.hook_in", "mlp.hook_out", "hook_mlp_out")
    }
    if "hook_resid_mid" in aliases:
        hooks["hook_resid_mid"] = f"{prefix}.{aliases['hook_resid_mid']}"
    return Block(
        layer=layer,
        parallel="hook_resid_mid" not in aliases,
        attention_norm=attention_norm,
        attention_post_norm=norm("ln1_post"),
        mlp_norm=mlp_norm,
        mlp_post_norm=norm("ln2_post"),
        W_V=_matrix(attention.W_V, layer),
        W_O=_matrix(attention.W_O, layer),
        hooks={**hooks, "pattern": f"{prefix}.attn.hook_pattern"},
    )


def _matrix(weight: Any, layer: int) -> Tensor:
    """Attention weights as (heads, …, …), refusing quantised ones."""
    if not isinstance(weight, Tensor) or not torch.is_floating_point(weight) or weight.ndim != 3:
        raise ValueError(
            f"The attention weights of layer {layer} are quantised; load the model in "
            "bfloat16, float16 or float32."
        )
    return weight.detach()
