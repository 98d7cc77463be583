"""Writing files so that nothing is lost: whole beside what is there, then in its place at once.

Whoever stops in the middle (an error, an interrupt, a full disk, a power cut) finds the old file.
"""

from __future__ import annotations

import errno
import os
import re
import reprlib
import secrets
import shutil
import stat
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_SHOWN, _SAID = 80, 80
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 2
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 3
_STALE = 3600.0
"""Seconds after which what a killed process left beside a file is cleared away."""
_UNSYNCED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""What file systems that cannot sync answer."""


def shown(path: str | os.PathLike[str]) -> str:
    """A path as sentences name it: its end, where it is long."""
    text = os.fspath(path)
    return text if len(text) <= _SHOWN else f"…{text[-_SHOWN:]}"


def quoted(value: object) -> str:
    """What stands in a file, as sentences quote it: on one line, and not at length."""
    return _SHORT.repr(value)


def said(error: BaseException) -> str:
    """What another library says of a file, as part of a sentence: one short line."""
    text = " ".join(str(error).split())
    return "".join(c if c.isprintable() else "?" for c in text[:_SAID])


@contextmanager
def replacing(path: str | os.PathLike[str], *, sync: bool = True) -> Generator[Path, None, None]:
    """Put a new file in the place of one that may be there, once it is whole.

    Args:
        path: The file; a link is followed.
        sync: Whether it is on the disk, and not only on its way there, when this returns.

    Yields:
        Where to write: an empty file in the same folder, which takes the place of the other when
        the block ends, and is gone when it fails.

    Raises:
        OSError: If it cannot be written; one sentence says why.
    """
    given, target = Path(path), Path(os.path.realpath(path))
    beside = _beside(target, "part")
    try:
        with explained(given):
            mode = _create(target, beside)
            yield beside
            if sync:
                _sync(beside)
            with suppress(OSError):  # some file systems know no modes
                beside.chmod(mode)
            beside.replace(target)
            if sync:
                _sync(target.parent)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    clear_stale(target)


@contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Generator[Path, None, None]:
    """As `replacing`, for a folder of files that belong together, e.g. a saved model.

    Folders above it are made where they are missing.
    """
    target = Path(os.path.realpath(path))
    beside, before = _beside(target, "part"), _beside(target, "old")
    try:
        with explained(Path(path)):
            beside.mkdir(parents=True)
            mode = _create(beside / "x", beside / "x")
            (beside / "x").unlink()
            yield beside
            for file in beside.rglob("*"):
                if file.is_file():  # some libraries let nobody else read what they write
                    file.chmod(mode)
                _sync(file)
            _sync(beside)
            if target.exists():
                if not target.is_dir():
                    raise NotADirectoryError(f"{shown(target)} is no folder; give another path.")
                target.rename(before)
            try:
                beside.rename(target)
            except BaseException:
                if before.exists():
                    before.rename(target)
                raise
            _sync(target.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(before, ignore_errors=True)


def write_bytes(path: str | os.PathLike[str], content: bytes, *, sync: bool = True) -> Path:
    """Write a file; see `replacing`. Returns its path."""
    with replacing(path, sync=sync) as beside:
        beside.write_bytes(content)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text as UTF-8; see `replacing`. Returns its path.

    Half a surrogate pair, which UTF-8 has no form for, becomes a question mark.
    """
    return write_bytes(path, text.encode("utf-8", "replace"))


def write_tensors(
    path: str | os.PathLike[str], arrays: Mapping[str, Any], metadata: Mapping[str, str]
) -> Path:
    """Write arrays as one safetensors file; see `replacing`. Returns its path."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with replacing(path) as beside:
        try:
            save_file(dict(arrays), beside, metadata=dict(metadata))
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            code = int(number[1])
            raise OSError(code, os.strerror(code)) from error
    return Path(path)


def check_writable(path: str | os.PathLike[str], size: int = 0) -> None:
    """Make sure that a file can be written, before what is to be in it is computed.

    Args:
        path: The file. What is there is not touched.
        size: How many bytes it will take, where that is known.

    Raises:
        OSError: If it cannot; one sentence says why.
    """
    given, target = Path(path), Path(os.path.realpath(path))
    beside = _beside(target, "part")
    try:
        with explained(given):
            _create(target, beside)
            if shutil.disk_usage(target.parent).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


@contextmanager
def explained(path: Path) -> Generator[None, None, None]:
    """Turn what the system says of a file that cannot be written into one sentence.

    Raises:
        OSError: Of the same kind and number, with that sentence.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        made = type(error)(f"{shown(path)} cannot be written: {_reason(error.errno, path)}.")
        made.errno = error.errno
        raise made from error


def _reason(code: int, path: Path) -> str:
    folder = shown(path.absolute().parent)
    if code in (errno.ENOENT, errno.ENOTDIR):
        return f"there is no folder {folder}; make it first, or give another path"
    if code in (errno.EACCES, errno.EPERM):
        return "this user may not write there; give a path in a folder of your own"
    if code in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {folder} is full; make room, or give a path on another disk"
    if code == errno.EROFS:
        return f"the disk of {folder} is read-only; give a path on another disk"
    if code == errno.EEXIST:
        return "there is a file of that name; give another folder"
    if code == errno.EISDIR:
        return "there is a folder of that name; give the path of a file"
    return f"{os.strerror(code).lower()} ({errno.errorcode.get(code, code)})"


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f"{_prefix(target)}{secrets.token_hex(6)}.{kind}")


def _prefix(target: Path) -> str:
    """What names beside a file begin with: hidden, and short enough for every file system."""
    return f".{target.name[:40]}."


def pending(path: Path, name: str) -> Path:
    """Where a file waits beside its place for another to be written; `name` has 12 hex digits."""
    return path.with_name(f"{_prefix(path)}{name}.part")


def _create(target: Path, beside: Path) -> int:
    """Make an empty file beside a target; returns the mode that the new one is to have."""
    mode = None
    with suppress(FileNotFoundError):
        mode = target.stat().st_mode
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if mode is not None and not stat.S_ISREG(mode):
        raise OSError(f"{shown(target)} cannot be written: it is no ordinary file.")
    # The system takes the user's umask off.
    handle = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode if mode is None else mode)
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise
    finally:
        os.close(handle)


def clear_stale(target: Path) -> None:
    """Remove what processes that were killed long ago left beside a file, waiting ones too."""
    # Not by glob: a name may hold its signs. The names of a folder of many are read in passing.
    prefix = _prefix(target)
    pattern = re.compile(re.escape(prefix) + r"[0-9a-f]{12}\.part")
    with suppress(OSError), os.scandir(target.parent) as files:
        for name in [f.name for f in files if f.name.startswith(prefix)]:
            path = target.with_name(name)
            if pattern.fullmatch(name) and time.time() - path.stat().st_mtime > _STALE:
                path.unlink()
