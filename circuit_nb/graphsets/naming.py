"""What a graph's file is called: a hash of all that its numbers depend on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from circuit_nb.attribution.compute import check_settings
from circuit_nb.attribution.targets import Target
from circuit_nb.graphsets.asking import Ask
from circuit_nb.model.replacement import ReplacementModel

_SAMPLED = 4096
"""Numbers of each tensor that are looked at."""


@dataclass(frozen=True)
class Settings:
    """Settings of `attribute`; the first three are part of a graph's name."""

    max_logits: int = 10
    logit_mass: float = 0.95
    max_features: int | None = 5000
    batch_size: int | None = None

    def check(self) -> None:
        """Raise `ValueError` if one is out of range."""
        check_settings(self.max_logits, self.logit_mass, self.max_features, self.batch_size)


def fingerprint(model: ReplacementModel) -> str:
    """A hash of names, revisions, type and a sample of all weights of model and transcoders.

    Two models that differ in training have different ones, also under one name in one place.
    """
    t = model.transcoders
    found = hashlib.sha256()
    names = (model.name, model.revision, t.source, t.revision, str(model.dtype))
    found.update(json.dumps(names).encode())
    parts = [model.unembedding, *(p for b in model.blocks for p in (b.W_V, b.W_O))]
    for layer in t.layers:
        parts += [layer.b_enc, layer.b_dec]
    for part in parts:
        found.update(_sample(part))
    return found.hexdigest()


def _sample(tensor: Tensor) -> bytes:
    """Numbers spread over a tensor, as bytes."""
    flat = tensor.detach().reshape(-1)
    step = max(1, flat.numel() // _SAMPLED)
    return flat[::step].cpu().contiguous().view(torch.uint8).numpy().tobytes()


def name_of(ask: Ask, settings: Settings, model: str) -> str:
    """The name of a prompt's graph.

    Args:
        ask: The prompt.
        settings: How it is attributed.
        model: Its `fingerprint`.
    """
    kept = {k: v for k, v in asdict(settings).items() if k != "batch_size"}
    targets = None if ask.targets is None else [_plain(target) for target in ask.targets]
    text = json.dumps([model, ask.prompt, targets, kept], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _plain(target: Any) -> Any:
    if not isinstance(target, Target):
        return target
    direction = target.direction
    held = None if direction is None else hashlib.sha256(_whole(direction)).hexdigest()
    return [target.label, target.weight, target.tokens, held]


def _whole(tensor: Tensor) -> bytes:
    return tensor.detach().float().cpu().contiguous().numpy().tobytes()
