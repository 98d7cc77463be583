"""What both sides of a benchmark measure with; imports nothing of either."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from smollm import text_of

_STATUS = Path("/proc/self/status")


def _allocated() -> int:
    """Bytes of anonymous memory resident now: what was allocated, without mapped files."""
    lines = _STATUS.read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


@dataclass
class Peak:
    """Peak memory allocated over what was allocated at the start, in bytes."""

    value: int = 0


@contextmanager
def peak_memory_above() -> Iterator[Peak]:
    """Sample the peak inside the block, every few milliseconds (Linux).

    Weights mapped from files do not count, whenever they are first touched.
    """
    peak, before, done = Peak(), _allocated(), threading.Event()

    def sample() -> None:
        while not done.wait(0.005):
            peak.value = max(peak.value, _allocated() - before)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()


def tokens_of(tokenizer, length: int) -> list[int]:
    """Token ids of the benchmark's prompt: BOS and the last tokens of its text."""
    ids = tokenizer(text_of(length), add_special_tokens=False)["input_ids"]
    return [tokenizer.bos_token_id, *ids[-(length - 1) :]]


def matmul_rate(size: int = 1024, seconds: float = 1.0) -> float:
    """Operations a second of square float32 matrix products, the best of those run."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
