"""How much memory a container leaves: Linux control groups, versions 1 and 2.

A notebook server's or a cluster's container has a limit of its own, beyond which its processes
are killed, whatever `/proc/meminfo` says the machine has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_UNLIMITED = 2**60
"""From here on a limit is none: version 1 writes the largest number of pages."""


class _Version(NamedTuple):
    """Where a version of control groups keeps its numbers."""

    mounts: tuple[str, ...]
    limit: str
    usage: str
    reclaimable: str
    """Name in `memory.stat` of what is cached of files and given up first."""


_FIRST = _Version(
    ("sys/fs/cgroup/memory",),
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
)
_SECOND = _Version(
    ("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory.max", "memory.current", "inactive_file"
)


def left_in_container(root: Path = Path("/")) -> int | None:
    """Bytes that the control groups of this process leave it; `None` where there is no limit.

    Args:
        root: Where `proc` and `sys` are.
    """
    left = [x for version, group in _groups(root) for x in _left(root, version, group)]
    return max(0, min(left)) if left else None


def _groups(root: Path) -> Iterator[tuple[_Version, str]]:
    """The groups this process is in, as paths below their mount."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield _SECOND, path
        elif "memory" in controllers.split(","):
            yield _FIRST, path


def _left(root: Path, version: _Version, group: str) -> Iterator[int]:
    """What a group and those above it leave; each one's limit holds."""
    for mount in version.mounts:
        base = root / mount
        # Within a container the path can be the host's, while its own group is mounted at the top.
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folder = base.joinpath(*parts[:depth])
            limit, used = _number(folder / version.limit), _number(folder / version.usage)
            if limit is None or used is None or limit >= _UNLIMITED:
                continue
            yield limit - used + _stat(folder, version.reclaimable)


def _stat(folder: Path, name: str) -> int:
    """A line of the group's statistics; 0 where it is missing."""
    for line in _read(folder / "memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
