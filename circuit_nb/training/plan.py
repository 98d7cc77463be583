"""What is trained, and how: every setting of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from circuit_nb.transcoders.transcoder import INPUT_HOOKS, OUTPUT_HOOKS


def fast_bfloat16(device: str = "cpu") -> bool:
    """Whether products in bfloat16 are faster than in float32 on a kind of device.

    What has no instructions for it computes them more slowly: measured on a processor with AVX2
    alone, six times. GPUs have them from compute capability 8.0 on (a T4 has 7.5).
    """
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    on_processor = device == "cpu"
    return on_processor and any(bool(getattr(torch.cpu, name, bool)()) for name in probes)


@dataclass(frozen=True)
class Plan:
    """Settings of `train_transcoders`.

    Raises:
        ValueError: If a setting is none that can be; it says which and what can.
    """

    features: int = 2048
    """Features a layer."""
    k: int = 24
    """How many of a layer's features fire at a token: exactly (TopK), or on average (JumpReLU)."""
    activation: Literal["jumprelu", "topk"] = "jumprelu"
    """JumpReLU is trained with one threshold a layer, moved so that `k` features fire on average
    (Bussmann et al. 2024, *BatchTopK*, with the threshold of earlier batches in place of this
    one's, so that training and use compute the same thing)."""
    cross_layer: bool = False
    """Whether features write to every later layer too (CLT)."""
    skip: bool = False
    """Whether a linear path runs beside the features (Paulo et al. 2025)."""
    start: Literal["neurons", "random"] = "neurons"
    """Where features begin: at what the model's own neurons read and write, those that write most
    first (random directions for what is left, and where there are no such neurons), or all at
    random directions."""
    input_hook: str = "mlp.hook_in"
    output_hook: str = "mlp.hook_out"
    epochs: float = 3.0
    """How often the texts are gone through."""
    tokens: int = 2048
    """Tokens a step, as nearly as whole sequences allow."""
    length: int = 128
    """Longest sequence; longer texts are cut into several."""
    rate: float = 3e-3
    """Adam's learning rate, after a rise over 12 steps, before a fall over the last 40 %."""
    dead_after: int = 100_000
    """Tokens without a firing after which a feature is helped back (Gao et al. 2024, aux-k)."""
    bfloat16: bool | None = None
    """Whether products are computed in bfloat16, while weights and their sums stay in float32; by
    default where that is faster (`fast_bfloat16`)."""
    seed: int = 0
    every: int = 100
    """Steps between two checkpoints."""

    def __post_init__(self) -> None:
        for name in ("features", "k", "tokens", "length", "dead_after", "every"):
            value: object = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; give a whole number from 1 up.")
        if self.k > self.features:
            raise ValueError(f"k is {self.k}, more than the {self.features} features there are.")
        for name in ("epochs", "rate"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value!r}; give a number above 0.")
        for name, valid in (
            ("activation", ("jumprelu", "topk")),
            ("start", ("neurons", "random")),
            ("input_hook", INPUT_HOOKS),
            ("output_hook", OUTPUT_HOOKS),
        ):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it can be {valid}.")
