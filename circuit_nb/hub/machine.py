"""What this machine has, and which model the demonstration takes on it.

`python -m circuit_nb.hub.machine` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass

from circuit_nb.hub.embedded import DEFAULT
from circuit_nb.hub.known import KnownPair, known_models

LARGE = "google/gemma-2-2b"


@dataclass(frozen=True)
class Machine:
    """What matters for choosing a model."""

    gpu: str = ""
    """Name of the CUDA device; empty if there is none."""
    gpu_gb: float = 0.0
    """Its memory in GB (10^9 bytes)."""
    has_token: bool = False
    """Whether huggingface_hub finds a token: in the environment, a login, or a Colab secret."""

    @property
    def demo_model(self) -> str:
        """Gemma-2-2B where it fits on the GPU and a token is there, else the embedded model."""
        return LARGE if self.has_token and self.gpu_gb >= _needed() else DEFAULT

    def __str__(self) -> str:
        gpu = f"{self.gpu}, {self.gpu_gb:.0f} GB" if self.gpu else "none"
        token = "found" if self.has_token else "none"
        lines = [f"GPU: {gpu}", f"Hugging Face token: {token}", f"demo model: {self.demo_model}"]
        if self.demo_model == DEFAULT:
            lines.append(
                f"  (for {LARGE}: a GPU with {_needed():.0f} GB, and a token as HF_TOKEN, a Colab "
                f"secret or in the environment, whose account accepted the terms at "
                f"https://huggingface.co/{LARGE})"
            )
        return "\n".join(lines)


def _needed() -> float:
    """GB of GPU memory that the large model and its default set take."""
    pair: KnownPair = next(p for p in known_models() if p.default and p.model == LARGE)
    return pair.memory_gb or float("inf")


def look() -> Machine:
    """See what there is. The token itself is not kept."""
    import torch
    from huggingface_hub import get_token

    has_token = bool(get_token())
    if not torch.cuda.is_available():
        return Machine(has_token=has_token)
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    return Machine(torch.cuda.get_device_name(0), memory, has_token)


if __name__ == "__main__":
    print(look())
