"""What CLT-Forge says of a set it wrote: its settings beside one file with all layers' weights.

Its layout (`CLT.save_model`): `clt_cfg.json` and `clt_weights.safetensors`. What its transcoders
read and write they do not say; the hooks given here are those of its own way to circuit-tracer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from circuit_nb.files import quoted, shown
from circuit_nb.hub.bounded_yaml import read_yaml
from circuit_nb.limits import MAX_LAYERS

DESCRIBED, WEIGHTS = "clt_cfg.json", "clt_weights.safetensors"


def files(folder: Path) -> tuple[str, ...]:
    """The files that the set in a folder consists of; none where CLT-Forge wrote nothing."""
    return (DESCRIBED, WEIGHTS) if (folder / DESCRIBED).is_file() else ()


def config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The set's `clt_cfg.json`, and the keys of a `config.yaml` that would say the same.

    Args:
        folder: One in which there are `files`.

    Raises:
        ValueError: If it is not what CLT-Forge writes, or its weights are in shards.
    """
    path = folder / DESCRIBED
    content = read_yaml(path)
    said = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    n_layers, cross_layer = said.get("n_layers"), said.get("cross_layer_decoders")
    if not isinstance(n_layers, int) or not 1 <= n_layers <= MAX_LAYERS:
        raise ValueError(f"{shown(path)} has n_layers {quoted(n_layers)}; give 1 to {MAX_LAYERS}.")
    if not isinstance(cross_layer, bool):
        raise ValueError(
            f"{shown(path)} has cross_layer_decoders {quoted(cross_layer)}; it is true or false."
        )
    if said.get("feature_sharding"):
        raise ValueError(
            f"{shown(path)} says feature_sharding: its weights are in a file for each process. "
            "Join them with CLT-Forge's CLT.load_from_pretrained and save_model."
        )
    return path, {
        "model_kind": "cross_layer_transcoder" if cross_layer else "transcoder_set",
        "feature_input_hook": "ln2.hook_normalized",
        "feature_output_hook": "hook_mlp_out",
        "model_name": said.get("model_name"),
        "transcoders": [WEIGHTS] * n_layers,
    }
