"""A transcoder set's `config.yaml`: read within bounds, and every key that is used checked.

It comes from strangers. Nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, cast

import yaml

from circuit_nb.files import quoted, said, shown
from circuit_nb.hub import clt_forge_config, sparsify_config
from circuit_nb.limits import MAX_LAYERS

MAX_BYTES = 10**6
"""Largest file read."""
MAX_VALUES = 20_000
"""Most values in one, those that an alias repeats counted as often as it does."""
MAX_DEPTH = 20
_TAG = "tag:yaml.org,2002:"
_TAGS = {None, *(_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map"))}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KINDS = ("transcoder_set", "cross_layer_transcoder")
_REMOTE = "hf://"
_MAX_NAME = 255


def read_config(folder: Path) -> dict[str, Any]:
    """The set's `config.yaml`, with the keys every set must have, all that are used checked.

    A set that sparsify or CLT-Forge wrote has none; what these say in files of their own is told by
    the same keys.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not YAML, or a key is missing or not what it should be.
    """
    path, forged = folder / "config.yaml", folder / clt_forge_config.CONFIG
    folders = {} if path.is_file() else sparsify_config.layer_folders(folder)
    if not (path.is_file() or folders or forged.is_file()):
        raise FileNotFoundError(
            f"No transcoder set at {shown(folder)}: there is no config.yaml in it. Give a folder "
            "or a Hub repository that holds one."
        )
    if folders:  # JSON is YAML too.
        said_there = (read_yaml(inner / "cfg.json") for inner in folders.values())
        config = sparsify_config.set_config(folders, said_there)
        path = folders[0] / "cfg.json"
    elif not path.is_file():
        path = forged
        config = clt_forge_config.set_config(read_yaml(path), path)
    else:
        config = read_yaml(path)
    needed = ("model_kind", "feature_input_hook", "feature_output_hook")
    missing = [key for key in needed if not isinstance(config, dict) or key not in config]
    if missing:
        raise ValueError(
            f"{shown(path)} lacks {', '.join(missing)}; a transcoder set must say them."
        )
    for key, problem in _problems(cast("dict[str, Any]", config)):
        raise ValueError(f"{shown(path)} has {key} {quoted(config[key])}; {problem}.")
    if config.get("activation") == "topk" and config.get("k") is None:
        raise ValueError(f"{shown(path)} says activation: topk; add k, e.g. k: 64.")
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
    k = config.get("k")
    if k is not None and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
        yield "k", "give a whole number from 1 up, without quotes, e.g. k: 64"
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


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ValueError: If it is too large, no YAML, or of a kind that no config needs.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(
            f"{shown(path)} has {size / 1e6:.1f} MB; no config of a transcoder set has over "
            f"{MAX_BYTES / 1e6:.0f} MB."
        )
    try:
        text = path.read_bytes().decode("utf-8")
        _check_events(text)
        return yaml.load(text, Loader=_LOADER)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{shown(path)} is not readable YAML ({said(error)}).") from None


def _check_events(text: str) -> None:
    """Refuse what would be deep or large once read, or be more than texts and numbers.

    An alias costs a few bytes and stands for all that its anchor holds, other aliases included:
    nine levels of nine would be a billion values.
    """
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError("an alias stands for what it is in, or for nothing")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            total += 1
            open_.append((event.anchor, total - 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
        if total > MAX_VALUES:
            raise ValueError(f"it holds over {MAX_VALUES} values")
        if len(open_) > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        tag: object = getattr(event, "tag", None)
        if tag not in _TAGS:
            raise ValueError(f"it has the tag {tag!r}, which no config needs")
