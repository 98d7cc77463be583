"""What EleutherAI's sparsify says of transcoders it wrote: a folder a layer, each with a config.

Its layout (`SparseCoder.save_to_disk`, `Trainer`): `layers.0.mlp/cfg.json` and
`layers.0.mlp/sae.safetensors`, named by the module whose input and output were trained on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from circuit_nb.files import quoted, shown
from circuit_nb.hub.bounded_yaml import read_yaml

DESCRIBED = "*.mlp/cfg.json"
"""What says whether there is a set."""
_FOLDER = re.compile(r"(?:layers|h)\.(\d{1,4})\.mlp")


def layer_folders(folder: Path) -> dict[int, Path]:
    """The folders of layers, by layer; empty where sparsify wrote nothing."""
    found = ((_FOLDER.fullmatch(path.parent.name), path) for path in folder.glob(DESCRIBED))
    return {int(match[1]): path.parent for match, path in sorted(found, key=str) if match}


def files(folder: Path) -> tuple[str, ...]:
    """The files that the set in a folder consists of; none where sparsify wrote nothing."""
    return ("*.mlp/cfg.json", "*.mlp/sae.safetensors") if layer_folders(folder) else ()


def config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The first layer's `cfg.json`, and the keys of a `config.yaml` that would say the same.

    Args:
        folder: One in which there are `files`.

    Raises:
        FileNotFoundError: If a layer is missing.
        ValueError: If they are not TopK transcoders, or not of one set.
    """
    folders = layer_folders(folder)
    gap = next((i for i in range(max(folders)) if i not in folders), None)
    if gap is not None:
        where = shown(next(iter(folders.values())).parent)
        raise FileNotFoundError(
            f"{where} lacks the transcoder of layer {gap}; every layer needs one."
        )
    found: dict[int, object] = {}
    for layer, inner in folders.items():
        content, path = read_yaml(inner / "cfg.json"), shown(inner / "cfg.json")
        said = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
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
    return folders[0] / "cfg.json", {
        "model_kind": "transcoder_set",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
        "activation": "topk",
        "k": first,
        "transcoders": [f"{folders[i].name}/sae.safetensors" for i in sorted(folders)],
    }
