"""Models and transcoder sets on the Hugging Face Hub, as local folders and files.

Everything goes through huggingface_hub: its cache, its parallel and resumed downloads, its
progress bars, its offline mode, and its places for a token. No token is read or kept here.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from circuit_nb.hub import known
from circuit_nb.hub.bounded_yaml import read_yaml
from circuit_nb.hub.embedded import EMBEDDED
from circuit_nb.hub.errors import Place, explained
from circuit_nb.hub.set_config import listed_files
from circuit_nb.hub.trainers import TRAINERS, trainer_of
from circuit_nb.hub.watch import Watch

_MARGIN = 10**9
"""Bytes of disk left free by a download."""
_MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
_SET_FILES = ("layer_*.safetensors", "layer_*.npz", "W_enc_*.safetensors", "W_dec_*.safetensors")


@dataclass(frozen=True)
class Resolved:
    """A model or a transcoder set on this machine."""

    folder: Path
    """Where it lies; for a set, where its config.yaml lies."""
    files: tuple[Path, ...] | None = None
    """One transcoder file a layer, where the config lists them; else they lie in the folder."""
    revision: str | None = None
    """Commit of the Hub repository, followed by those of the repositories its config lists files
    of, as `owner/name@commit`; None for a local folder."""
    name: str = ""
    """What was asked for."""


def parse_place(text: str) -> Place:
    """Read `owner/name/folder@revision` or `hf://owner/name/path/file?revision=…`.

    Raises:
        ValueError: If it is neither.
    """
    if text.startswith("hf://"):
        parts = urlsplit(text)
        path = f"{parts.netloc}{parts.path}"
        revision = parse_qs(parts.query).get("revision", [None])[0]
    else:
        path, _, named = text.partition("@")
        revision = named or None
    owner, name, *rest = [*path.split("/"), ""]
    rest = [part for part in rest if part]
    # What begins with a slash or a dot is a path on this machine, mistyped.
    legal = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
    if not (legal.fullmatch(owner) and legal.fullmatch(name)) or ".." in (owner, name, *rest):
        raise ValueError(
            f"{text[:120]!r} is neither a folder here nor a Hub id; write owner/name, "
            "owner/name/folder@revision, or hf://owner/name/path/file?revision=…"
        )
    return Place(f"{owner}/{name}", "/".join(rest), revision)


def default_transcoders(model: str) -> str:
    """Name of the transcoder set that goes with a model where none is named.

    Raises:
        ValueError: If none is known; the message lists the models that have one.
    """
    return model if model in EMBEDDED else known.default_set(model)


def model_source(name: str) -> Resolved:
    """A language model as a local folder, downloaded if it is not there yet.

    Only configuration, tokenizer and safetensors are fetched; pickled weights never are.

    Args:
        name: An embedded model, a local folder, or a Hub id, `owner/name@revision`.

    Raises:
        OSError: If it cannot be had; one sentence says why and what to do.
        ValueError: If the name is no Hub id.
    """
    if name in EMBEDDED:
        return Resolved(EMBEDDED[name] / "model", name=name)
    local = Path(name).expanduser()
    if local.is_dir():
        return Resolved(local, name=name)
    place = parse_place(name)
    if place.path:
        raise ValueError(f"{name!r} names a folder in a repository; a model is a whole repository.")
    folder = _fetch(place, _MODEL_FILES, ("*/*", "consolidated*"), in_memory=True)
    _need(folder, place, ("config.json",))
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"{place} holds no safetensors weights; pickled ones are not loaded, since they can "
            "run code. Convert them with transformers' save_pretrained."
        )
    return Resolved(folder, None, _commit(folder), name)


def transcoder_set(spec: str | os.PathLike[str]) -> Resolved:
    """A transcoder set as local files, downloaded if they are not there yet.

    Args:
        spec: That of an embedded model, a local folder, or a Hub id,
            `owner/name/folder@revision`. Its config.yaml may list files of other repositories as
            `hf://owner/name/path/file?revision=…`.

    Raises:
        OSError: If it cannot be had; one sentence says why and what to do.
        ValueError: If the name is no Hub id, or the config is malformed.
    """
    if spec in EMBEDDED:
        return Resolved(EMBEDDED[str(spec)] / "transcoders", name=str(spec))
    local = Path(spec).expanduser()
    if local.is_dir():
        listed = _listed(local)
        files = _files(listed, local, None) if any(map(_is_remote, listed)) else None
        return Resolved(local, files, name=os.fspath(spec))
    place = parse_place(os.fspath(spec))
    prefix = f"{place.path}/" if place.path else ""
    described = ("config.yaml", *(trainer.DESCRIBED for trainer in TRAINERS))
    folder = _fetch(place, [glob.escape(prefix) + name for name in described])
    inner = folder / place.path
    if trainer := trainer_of(inner):
        _fetch(place, [glob.escape(prefix) + name for name in trainer.files(inner)])
        return Resolved(inner, None, _commit(folder), str(place))
    _need(inner, place, ("config.yaml",))
    listed = _listed(inner)
    if listed:
        files = _files(listed, inner, place)
        elsewhere = {_origin(path): None for path in files if not path.is_relative_to(folder)}
        revision = "; ".join([_commit(folder) or "", *elsewhere])
        return Resolved(inner, files, revision, str(place))
    _fetch(place, [glob.escape(prefix) + name for name in ("config.yaml", *_SET_FILES)])
    return Resolved(inner, None, _commit(folder), str(place))


def _listed(folder: Path) -> list[str]:
    """What config.yaml lists under `transcoders`; empty where it lists nothing."""
    path = folder / "config.yaml"
    return listed_files(read_yaml(path), path) if path.is_file() else []


def _is_remote(entry: str) -> bool:
    return entry.startswith("hf://")


def _files(listed: Sequence[str], folder: Path, place: Place | None) -> tuple[Path, ...]:
    """The listed files in their order; those of one repository are fetched together."""
    wanted: dict[tuple[str, str | None], list[str]] = {}
    places: list[Place | None] = []
    for entry in listed:
        found = parse_place(entry) if _is_remote(entry) else _beside(entry, place)
        places.append(found)
        if found is not None:
            wanted.setdefault((found.repo, found.revision), []).append(found.path)
    folders = {
        key: _fetch(Place(key[0], "", key[1]), [glob.escape(path) for path in paths])
        for key, paths in wanted.items()
    }
    result: list[Path] = []
    for entry, found in zip(listed, places, strict=True):
        root = folder if found is None else folders[found.repo, found.revision]
        relative = entry if found is None else found.path
        if not (root / relative).is_file():
            raise FileNotFoundError(
                f"{found.repo if found else folder} has no file {relative!r}"
                f"{f' at revision {found.revision}' if found and found.revision else ''}, "
                "which the set's config.yaml lists."
            )
        result.append(root / relative)
    return tuple(result)


def _beside(entry: str, place: Place | None) -> Place | None:
    """A file listed relative to its config: in the config's repository, or None for a local one."""
    if place is None:
        return None
    return Place(place.repo, f"{place.path}/{entry}".strip("/"), place.revision)


def _need(folder: Path, place: Place, names: Iterable[str]) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{place} has no {name}; is it the repository you mean?")


def _commit(folder: Path) -> str | None:
    """The commit of a snapshot folder of the client's cache."""
    parts = folder.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


def _origin(file: Path) -> str:
    """`owner/name@commit` of a file in the client's cache."""
    parts = file.parts
    repo = parts[parts.index("snapshots") - 1].removeprefix("models--").replace("--", "/")
    return f"{repo}@{_commit(file)}"


def _fetch(
    place: Place, patterns: Sequence[str], ignore: Sequence[str] = (), *, in_memory: bool = False
) -> Path:
    """The folder of a repository's snapshot that holds all its files that fit the patterns."""
    from huggingface_hub import get_session, snapshot_download
    from huggingface_hub.errors import DryRunError

    chosen: dict[str, Any] = {
        "repo_id": place.repo,
        "revision": place.revision,
        "allow_patterns": list(patterns),
        "ignore_patterns": list(ignore),
    }

    watch = Watch()

    def ask(**more: Any) -> Any:
        with watch.over(get_session()):
            return snapshot_download(**chosen, **more)

    with explained(place):
        try:
            planned: list[Any] = watch.run(partial(ask, dry_run=True, tqdm_class=_silent()))
        except DryRunError:  # Not reachable: the client looks in its cache.
            planned = []
    _check_room(place, planned, in_memory=in_memory)
    with explained(place):
        folder = Path(watch.run(ask))
    fresh = {file.filename for file in planned if file.will_download}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            _check_file(place, path, name, fresh=name in fresh)
    return folder


def _silent() -> type[Any]:
    """A progress bar that shows nothing."""
    from tqdm.auto import tqdm

    class Silent(tqdm):  # pyright: ignore[reportMissingTypeArgument, reportUntypedBaseClass]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True, "name": None})

    return Silent


def _check_room(place: Place, planned: Sequence[Any], *, in_memory: bool) -> None:
    """Say what a download needs before it begins, if it does not fit."""
    from huggingface_hub.constants import HF_HUB_CACHE

    needed = sum(file.file_size or 0 for file in planned if file.will_download)
    disk = next(p for p in (Path(HF_HUB_CACHE), *Path(HF_HUB_CACHE).parents) if p.exists())
    free = shutil.disk_usage(disk).free
    if needed and needed + _MARGIN > free:
        raise OSError(
            f"{place} needs {needed / 1e9:.1f} GB on disk and {free / 1e9:.1f} GB are free in "
            f"{disk}; make room, or set HF_HOME to a folder on a larger disk."
        )
    weights = sum(f.file_size or 0 for f in planned if f.filename.endswith(".safetensors"))
    memory = _memory()
    if needed and in_memory and memory and weights > memory:
        warnings.warn(
            f"{place} has {weights / 1e9:.1f} GB of weights and this machine {memory / 1e9:.1f} GB "
            "of memory; a smaller model will fit (see circuit_nb.known_models()).",
            stacklevel=2,
        )


def _memory() -> int:
    """Bytes of memory of this machine; 0 where that cannot be told."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _check_file(place: Place, path: Path, name: str, *, fresh: bool) -> None:
    """Refuse a file that is damaged: by its structure, or, if just downloaded, its checksum."""
    blob = path.resolve()
    # The client's cache names large files by their SHA-256.
    summed = fresh and re.fullmatch(r"[0-9a-f]{64}", blob.name)
    if _is_whole(path) and not (summed and _sha256(blob) != blob.name):
        return
    blob.unlink()
    path.unlink(missing_ok=True)
    raise OSError(
        f"{name} of {place} is corrupt on this machine; it was deleted, so run this again to "
        "fetch it anew."
    )


def _is_whole(path: Path) -> bool:
    """Whether a weight file is as long as its own table of contents says. Reads no weights."""
    if path.suffix == ".npz":
        return zipfile.is_zipfile(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy"):
                return True
        except SafetensorError:
            return False
    return True


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
