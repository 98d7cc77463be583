"""Trained transcoders as files, in the layout that `load` and circuit-tracer read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from circuit_nb.files import write_tensors, write_text
from circuit_nb.training.coders import Coders
from circuit_nb.training.plan import Plan


@torch.no_grad()
def transcoders_of(coders: Coders) -> list[dict[str, Tensor]]:
    """One layer's tensors each, in the units of the model: scales are folded into weights."""
    found: list[dict[str, Tensor]] = []
    for i in range(coders.n_layers):
        written = coders.out_scale[coders.writes(i).start : coders.writes(i).stop]
        tensors = {
            "W_enc": coders.W_enc[i] / coders.in_scale[i],
            "b_enc": coders.b_enc[i],
            "W_dec": coders.W_dec[i] * written[:, None],
            "b_dec": coders.b_dec[i] * coders.out_scale[i],
        }
        if coders.plan.activation == "jumprelu":
            tensors["threshold"] = coders.threshold[i].expand(coders.plan.features)
        if coders.plan.skip:
            tensors["W_skip"] = coders.W_skip[i] * coders.out_scale[i] / coders.in_scale[i]
        found.append(tensors)
    return found


def save(folder: Path, layers: list[dict[str, Tensor]], plan: Plan, *, model_name: str) -> None:
    """Write a set: `config.yaml` last, so that what is opened is whole.

    Args:
        folder: Where.
        layers: From `transcoders_of`.
        plan: What it was trained by.
        model_name: The model it was trained on.
    """
    config = folder / "config.yaml"
    config.unlink(missing_ok=True)
    for i, tensors in enumerate(layers):
        arrays = {
            name: value.detach().cpu().contiguous().numpy() for name, value in tensors.items()
        }
        if plan.cross_layer:
            decoder, skip = arrays.pop("W_dec"), arrays.pop("W_skip", None)
            beside = {f"{name}_{i}": value for name, value in arrays.items()}
            if skip is not None:
                beside["W_skip"] = skip
            write_tensors(folder / f"W_enc_{i}.safetensors", beside, {})
            write_tensors(folder / f"W_dec_{i}.safetensors", {f"W_dec_{i}": decoder}, {})
            continue
        arrays["W_dec"] = arrays["W_dec"][:, 0]
        if "threshold" in arrays:
            arrays["activation_function.threshold"] = arrays.pop("threshold")
        write_tensors(folder / f"layer_{i}.safetensors", arrays, {})
    said: dict[str, Any] = {
        "model_name": model_name,
        "model_kind": "cross_layer_transcoder" if plan.cross_layer else "transcoder_set",
        "feature_input_hook": plan.input_hook,
        "feature_output_hook": plan.output_hook,
        "scan": folder.name,
    }
    if plan.activation == "topk":
        said |= {"activation": "topk", "k": plan.k}
    write_text(config, yaml.safe_dump(said, sort_keys=False))
