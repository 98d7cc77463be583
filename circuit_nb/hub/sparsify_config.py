"""What EleutherAI's sparsify says of transcoders it wrote: a folder a layer, each with a config.

Its layout (`SparseCoder.save_to_disk`, `Trainer`): `layers.0.mlp/cfg.json` and
`layers.0.mlp/sae.safetensors`, named by the module whose input and output were trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from circuit_nb.files import quoted, shown

FILES = ("*.mlp/cfg.json", "*.mlp/sae.safetensors")
_FOLDER = re.compile(r"(?:layers|h)\.(\d{1,4})\.mlp")


def layer_folders(folder: Path) -> dict[int, Path]:
    """The folders of layers, by layer; empty where sparsify wrote nothing."""
    found = ((_FOLDER.fullmatch(path.parent.name), path) for path in folder.glob("*.mlp/cfg.json"))
    return {int(match[1]): path.parent for match, path in sorted(found, key=str) if match}


def set_config(folders: dict[int, Path], configs: Iterable[Any]) -> dict[str, Any]:
    """The keys of a `config.yaml` that would say the same.

    Args:
        folders: From `layer_folders`, at least one.
        configs: What each one's `cfg.json` holds, in the same order.

    Raises:
        FileNotFoundError: If a layer is missing.
        ValueError: If they are not TopK transcoders, or not of one set.
    """
    gap = next((i for i in range(max(folders)) if i not in folders), None)
    if gap is not None:
        where = shown(next(iter(folders.values())).parent)
        raise FileNotFoundError(
            f"{where} lacks the transcoder of layer {gap}; every layer needs one."
        )
    found: dict[int, object] = {}
    for layer, config in zip(folders, configs, strict=True):
        path = shown(folders[layer] / "cfg.json")
        said = cast("dict[str, Any]", config) if isinstance(config, dict) else {}
        if said.get("transcode") is not True:
            raise ValueError(
                f"{path} is of an autoencoder of what the MLP writes; transcoders are read, which "
                "sparsify trains with --transcode."
            )
        if said.get("activation", "topk") != "topk":
            raise ValueError(f"{path} has activation {quoted(said['activation'])}; topk is read.")
        found[layer] = said.get("k")
    first = found[0]
    other = next((layer for layer, k in found.items() if k != first), None)
    if other is not None:
        raise ValueError(
            f"{shown(folders[other] / 'cfg.json')} has k {quoted(found[other])}, that of layer 0 "
            f"{quoted(first)}; a set needs one."
        )
    return {
        "model_kind": "transcoder_set",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
        "activation": "topk",
        "k": first,
        "transcoders": [f"{folders[i].name}/sae.safetensors" for i in sorted(folders)],
    }
