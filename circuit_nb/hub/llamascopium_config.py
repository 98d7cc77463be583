"""What llamascopium says of a cross-layer transcoder it wrote.

Its layout (`save_hyperparameters`, `save_pretrained`): `config.json` with `sae_type` "clt", and
`sae_weights.safetensors` with all layers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from circuit_nb.files import quoted, shown
from circuit_nb.hub.bounded_yaml import read_yaml
from circuit_nb.limits import MAX_LAYERS

DESCRIBED, WEIGHTS = "config.json", "sae_weights.safetensors"
_FUNCTIONS = ("relu", "jumprelu", "topk", "layertopk")
_HOOK = re.compile(r"blocks\.(\d{1,4})\.(.+)")


def files(folder: Path) -> tuple[str, ...]:
    """The files that the set in a folder consists of; none where llamascopium wrote nothing."""
    path = folder / DESCRIBED  # A model's folder has one of this name, too.
    return (DESCRIBED, WEIGHTS) if path.is_file() and "sae_type" in _content(path) else ()


def config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The set's `config.json`, and the keys of a `config.yaml` that would say the same.

    Beside these: `input_norms` and `output_norms`, the names of tensors with the average norms that
    inputs and outputs were divided by, one a layer, where they are not in the weights already; and
    `decoder_norm_gates`, whether activations are judged times their decoders' norms.

    Args:
        folder: One in which there are `files`.

    Raises:
        ValueError: If it is no cross-layer transcoder, or of a kind that is not read.
    """
    path = folder / DESCRIBED
    said = _content(path)
    inputs, outputs = (_hooks(said, key, path) for key in ("hook_points_in", "hook_points_out"))
    if len(inputs) != len(outputs):
        raise ValueError(f"{shown(path)} names {len(inputs)} inputs and {len(outputs)} outputs.")
    gated = said.get("sparsity_include_decoder_norm", True) is not False
    function, norm = said.get("act_fn", "relu"), said.get("norm_activation", "dataset-wise")
    if said["sae_type"] != "clt":
        problem = f"has sae_type {quoted(said['sae_type'])}; of its kinds clt is read"
    elif function not in _FUNCTIONS:
        problem = (
            f"has act_fn {quoted(function)}, which chooses among the tokens of a batch; convert it "
            "to jumprelu with llamascopium"
        )
    elif norm not in ("dataset-wise", "inference"):
        problem = (
            f"has norm_activation {quoted(norm)}, by which a feature's input depends on other "
            "tokens or on its own norm; dataset-wise and inference are read"
        )
    else:
        norms = {
            f"{key}_norms": [f"dataset_average_activation_norm.{hook}" for hook in hooks]
            for key, hooks in (("input", inputs), ("output", outputs))
            if norm == "dataset-wise"
        }
        return path, {
            "model_kind": "cross_layer_transcoder",
            "feature_input_hook": _of_all(inputs, path),
            "feature_output_hook": _of_all(outputs, path),
            **_chosen(str(function), said.get("top_k")),
            "transcoders": [WEIGHTS] * len(inputs),
            "decoder_norm_gates": gated,
            **norms,
        }
    raise ValueError(f"{shown(path)} {problem}.")


def _chosen(function: str, k: object) -> dict[str, Any]:
    """What TopK keeps: by each layer, or (layertopk, despite its name) of all layers together."""
    if not function.endswith("topk"):
        return {}
    return {"activation": "topk", "k" if function == "topk" else "joint_k": k}


def _content(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}


def _hooks(said: dict[str, Any], key: str, path: Path) -> list[str]:
    """The names of the hooks under a key, one a layer."""
    hooks = cast("list[object]", said[key]) if isinstance(said.get(key), list) else []
    named = [hook for hook in hooks if isinstance(hook, str)]
    if not 1 <= len(named) == len(hooks) <= MAX_LAYERS:
        raise ValueError(f"{shown(path)} has no list of one to {MAX_LAYERS} names under {key}.")
    return named


def _of_all(hooks: list[str], path: Path) -> str:
    """What the hooks of all layers are called within their layer."""
    found = [_HOOK.fullmatch(hook) for hook in hooks]
    inner = {match[2] for match in found if match}
    layers = [int(match[1]) for match in found if match]
    if layers != list(range(len(hooks))) or len(inner) != 1:
        raise ValueError(
            f"{shown(path)} names the hooks {quoted(hooks)}; every layer from 0 on needs one, "
            "and all of one kind, e.g. blocks.0.hook_resid_mid."
        )
    return inner.pop()
