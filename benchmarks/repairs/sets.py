"""Point 5: what is loaded is checked; and cards of a TopK set, of point 4."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from registry import DALLAS, GOLDEN, GOLDEN_PROMPT, atlas, case


def active(tensors: dict[str, Any] | None = None, text: str = "", **config: Any) -> str:
    """Load a small set with tensors of layer 0, settings or text in config.yaml changed."""
    from safetensors.torch import load_file, save_file

    from circuit_nb import attribute, load

    folder = Path(tempfile.mkdtemp()) / "set"
    shutil.copytree(GOLDEN / "transcoders", folder)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **config}) + text)
    if tensors:
        file = folder / "layer_0.safetensors"
        save_file({**load_file(file), **tensors}, file)
    model = load(GOLDEN / "model", folder, device="cpu")
    graph = attribute(model, GOLDEN_PROMPT, max_features=None, progress=False)
    return f"accepted; {graph.n_active} active features"


def _nan(*shape: int) -> torch.Tensor:
    return torch.full(shape, float("nan"))


EMPTY = {
    "b_enc": torch.zeros(0), "W_enc": torch.zeros(0, 32), "W_dec": torch.zeros(0, 32),
    "activation_function.threshold": torch.zeros(0),
}  # fmt: skip
ALIASES = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    + ["feature_input_hook: *a8\n"]
)
INSIDE = [str((GOLDEN / "transcoders" / f"layer_{i}.safetensors").resolve()) for i in range(4)]
SETS: dict[str, Callable[[], str]] = {
    "as it is": active,
    "of no features": partial(active, EMPTY),
    "whose thresholds are NaN": partial(active, {"activation_function.threshold": _nan(40)}),
    "whose biases are NaN": partial(active, {"b_enc": _nan(40)}),
    "with NaN in `W_dec`": partial(active, {"W_dec": _nan(40, 32)}),
    "with a scalar for `b_enc`": partial(active, {"b_enc": torch.tensor(1.0)}),
    "with `k: '64'`": partial(active, k="64"),
    "with `k: -1`": partial(active, k=-1),
    "with `k: true`": partial(active, k=True),
    "with `scan: 5`": partial(active, scan=5),
    "whose YAML has nine levels of nine aliases": partial(active, text=ALIASES),
    "whose config.yaml has 30 MB": partial(active, text="x: [" + "[]," * 10_000_000 + "]\n"),
    "with an odd tag in its YAML": partial(active, text="note: !!timestamp x\n"),
    "whose config.yaml of 1.1 MB lists files outside": partial(
        active, text="# " + "x" * 1_100_000 + "\n", transcoders=INSIDE
    ),
}
for which, use in SETS.items():
    case(5, f"loads a set {which}")(use)


@case(4, "computes cards of a TopK set with negative activations")
def topk_cards() -> str:
    from circuit_nb import cards, load

    model = atlas()
    layers = tuple(
        replace(layer, threshold=None, k=len(layer.b_enc) - 2) for layer in model.transcoders.layers
    )
    model = load(model.bridge, replace(model.transcoders, layers=layers))
    texts = [DALLAS, DALLAS.replace("Dallas", "Oakland"), "I live in Dallas, Texas."]
    return f"{len(cards.compute(model, texts, effects=0, progress=False))} cards"
