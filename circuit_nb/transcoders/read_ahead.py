"""Telling the system what will be read."""

from __future__ import annotations

import os
from pathlib import Path


def announce(path: Path, begin: int, size: int, rows: list[int]) -> None:
    """Tell the system which rows will be read, so that it fetches them from the disk together.

    Mapped memory alone fetches one after the other, each when it is touched.

    Args:
        path: The file.
        begin: Where the first row begins, in bytes.
        size: Bytes of a row.
        rows: Which rows.
    """
    if not hasattr(os, "posix_fadvise"):  # not on macOS and Windows
        return
    with path.open("rb") as file:
        for row in rows:
            os.posix_fadvise(file.fileno(), begin + row * size, size, os.POSIX_FADV_WILLNEED)
