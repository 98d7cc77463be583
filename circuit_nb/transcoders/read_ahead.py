"""Reading before it is asked for: by the system, told what will be, and beside other work."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread


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


@contextmanager
def reading_ahead(reads: Sequence[Callable[[], object]]) -> Generator[None]:
    """Read one thing after the other while something else is done, until that is done.

    What cannot be read is left to whoever asks for it, and is told why.

    Args:
        reads: Each reads what it returns and keeps it for whoever asks for it later; it can be
            called while others are.
    """
    done = Event()

    def read() -> None:
        for one in reads:
            if done.is_set():
                return
            with suppress(Exception):
                one()

    thread = Thread(target=read, name="reading ahead", daemon=True)
    try:
        if reads:
            thread.start()
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
