"""How much main memory can still be taken: of the machine, and of the container this runs in.

A notebook server's or a cluster's container has a limit of its own, beyond which its processes
are killed, whatever `/proc/meminfo` says the machine has. It is read from Linux control groups,
versions 1 and 2.
"""

from __future__ import annotations

import os
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


def available_memory() -> int:
    """Bytes of main memory that this process can still take, or a careful guess.

    What is free on the machine or can be freed, and no more than its container leaves it.
    """
    left = left_in_container()
    return _machine_memory() if left is None else min(left, _machine_memory())


def _machine_memory() -> int:
    meminfo = _read("/proc/meminfo").splitlines()
    line = next((x for x in meminfo if x.startswith("MemAvailable")), "")
    if line:
        return 1024 * int(line.split()[1])
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 2**32


def left_in_container(root: Path = Path("/")) -> int | None:
    """Bytes that the control groups of this process leave it; `None` where there is no limit.

    Args:
        root: Where `proc` and `sys` are.
    """
    left = [x for version, group in _groups(root) for x in _left(root, version, group)]
    return max(0, min(left)) if left else None


def _groups(root: Path) -> Iterator[tuple[_Version, str]]:
    """The groups this process is in, as paths below their mount."""
    for line in _read(f"{root}/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield _SECOND, path
        elif "memory" in controllers.split(","):
            yield _FIRST, path


def _left(root: Path, version: _Version, group: str) -> Iterator[int]:
    """What a group and those above it leave; each one's limit holds."""
    for mount in version.mounts:
        # Within a container the path can be the host's, while its own group is mounted at the top.
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folder = "/".join([str(root), mount, *parts[:depth]])
            limit = _number(f"{folder}/{version.limit}")
            if limit is None or limit >= _UNLIMITED:
                continue
            used = _number(f"{folder}/{version.usage}")
            if used is not None:
                yield limit - used + _stat(f"{folder}/memory.stat", version.reclaimable)


def _stat(path: str, name: str) -> int:
    """A line of the group's statistics; 0 where it is missing."""
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _number(path: str) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _read(path: str) -> str:
    # Asked for three times an attribution: a text file is opened in three times as long.
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
