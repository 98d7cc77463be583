"""A transcoder set's `config.yaml`: read within bounds, and every key that is used checked.

It comes from strangers. Nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, cast

from circuit_nb.files import quoted, shown
from circuit_nb.hub.bounded_yaml import read_yaml
from circuit_nb.hub.trainers import trainer_of
from circuit_nb.limits import MAX_LAYERS

MAX_DEPTH = 20
"""Most folders in the name of a file."""
_KINDS = ("transcoder_set", "cross_layer_transcoder")
_REMOTE = "hf://"
_MAX_NAME = 255


def read_config(folder: Path) -> dict[str, Any]:
    """The set's `config.yaml`, with the keys every set must have, all that are used checked.

    A set that another trainer wrote (`trainers`) has none; what this says in files of its own is
    told by the same keys.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not YAML, or a key is missing or not what it should be.
    """
    path, trainer = folder / "config.yaml", trainer_of(folder)
    if not path.is_file() and trainer is None:
        raise FileNotFoundError(
            f"No transcoder set at {shown(folder)}: there is no config.yaml in it. Give a folder "
            "or a Hub repository that holds one."
        )
    path, config = trainer.config(folder) if trainer is not None else (path, read_yaml(path))
    needed = ("model_kind", "feature_input_hook", "feature_output_hook")
    missing = [key for key in needed if not isinstance(config, dict) or key not in config]
    if missing:
        raise ValueError(
            f"{shown(path)} lacks {', '.join(missing)}; a transcoder set must say them."
        )
    for key, problem in _problems(cast("dict[str, Any]", config)):
        raise ValueError(f"{shown(path)} has {key} {quoted(config[key])}; {problem}.")
    chosen = [key for key in ("k", "joint_k") if config.get(key) is not None]
    if config.get("activation") == "topk" and not chosen:
        raise ValueError(f"{shown(path)} says activation: topk; add k, e.g. k: 64.")
    if len(chosen) == 2:
        raise ValueError(
            f"{shown(path)} says k and joint_k; give k, how many features each layer keeps, or "
            "joint_k, how many all layers keep together."
        )
    listed_files(config, path)
    return cast("dict[str, Any]", config)


def _problems(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys that are there and not what they should be, and what they can be."""
    if config["model_kind"] not in _KINDS:
        yield "model_kind", f"it can be {' or '.join(_KINDS)}"
    for key in ("feature_input_hook", "feature_output_hook", "model_name", "activation"):
        needed = config.get(key) is not None or key.startswith("feature_")
        if needed and not isinstance(config[key], str):
            yield key, "it must be a text"
    for key in ("k", "joint_k"):
        k = config.get(key)
        if k is not None and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
            yield key, f"give a whole number from 1 up, without quotes, e.g. {key}: 64"
    scan = config.get("scan")
    names = cast("list[object]", scan) if isinstance(scan, list) else [scan]
    if scan is not None and not all(isinstance(name, str) for name in names):
        yield "scan", "it must be a text or a list of texts"


def listed_files(config: Any, path: Path) -> list[str]:
    """What the config at `path` lists under `transcoders`; empty where it lists nothing.

    Returns:
        One a layer: `hf://owner/name/path/file?revision=…`, or a path below the config's folder.

    Raises:
        ValueError: If it is no such list.
    """
    listed = cast("dict[str, Any]", config).get("transcoders") if isinstance(config, dict) else None
    if listed is None:
        return []
    entries = cast("list[Any]", listed) if isinstance(listed, list) else [listed]
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"{shown(path)}: `transcoders` must be a list of file names, one a layer.")
    if len(entries) > MAX_LAYERS:
        raise ValueError(f"{shown(path)} lists {len(entries)} files; no model has so many layers.")
    for entry in entries:
        if not entry.startswith(_REMOTE):
            _check_inside(entry, path)
    return entries


def _check_inside(entry: str, path: Path) -> None:
    posix, windows = PurePosixPath(entry), PureWindowsPath(entry)
    parts = (*posix.parts, *windows.parts)
    if posix.is_absolute() or windows.drive or windows.root or ".." in parts:
        raise ValueError(
            f"{shown(path)} lists {quoted(entry)}, outside its folder; list files in it."
        )
    legal = entry.isprintable() and all(len(part.encode()) <= _MAX_NAME for part in posix.parts)
    if not legal or not posix.parts or len(posix.parts) > MAX_DEPTH:
        raise ValueError(f"{shown(path)} lists {quoted(entry)}, which names no file.")
