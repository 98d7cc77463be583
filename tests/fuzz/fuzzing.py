"""Damaged files by the thousand: each is refused with the promised error, or is one that can be.

Run by hand, from the repository's root, for many files of a kind:

    PYTHONPATH=. python tests/fuzz/fuzzing.py graph --runs 100000

Promised: a `ValueError` (for a missing file, a `FileNotFoundError`) whose message is one line
of less than 300 characters; no other error, no warning, no run beyond 2 s (of the processor) or
1 GB. A file that is not refused is put to use: what is computed from it must neither fail nor hang.
"""

from __future__ import annotations

import argparse
import collections
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SECONDS, GIGABYTES, CHARACTERS = 2.0, 1.0, 300
HANGS = 60.0
"""Seconds by the clock; `SECONDS` are the processor's, whatever else a machine has to do."""
PROMISED = (ValueError, FileNotFoundError)

Case = Callable[[Path, random.Random], Callable[[], object]]
"""Writes a damaged file into a folder; returns what reads and uses it."""


class Broken(AssertionError):
    """A promise that was not kept; the message says by which file."""


@dataclass
class Tally:
    """What became of the files."""

    runs: int = 0
    refused: collections.Counter[str] = field(default_factory=collections.Counter)
    slowest: float = 0.0
    grown: float = 0.0
    """Growth of the process's peak memory, GB."""


def run(kind: str, runs: int, seed: int = 0, first: int = 0) -> Tally:
    """Read so many damaged files of a kind.

    Args:
        kind: One of `kinds.KINDS`.
        runs: How many.
        seed: Another seed damages them otherwise.
        first: Number of the first, to see one of them again.

    Raises:
        Broken: At the first promise not kept.
    """
    from kinds import KINDS

    case, tally, before = KINDS[kind], Tally(), _peak()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(first, first + runs):
            draw = random.Random(f"{kind} {seed} {number}")
            place = Path(folder) / str(number % 2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what makes the damage
                use = case(place, draw)
            begun = time.process_time()
            problem = _attempt(use, tally)
            took = time.process_time() - begun
            tally.runs += 1
            tally.slowest = max(tally.slowest, took)
            tally.grown = _peak() - before
            if not problem and took > SECONDS:
                problem = f"took {took:.1f} s"
            if not problem and tally.grown > GIGABYTES:
                problem = f"took {tally.grown:.1f} GB"
            if problem:
                raise Broken(f"{kind}, seed {seed}, number {number}: {problem}")
    return tally


def _attempt(use: Callable[[], object], tally: Tally) -> str:
    """Read and use a file; what is wrong with that, empty if nothing."""

    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, HANGS)
    try:
        use()
    except PROMISED as error:
        text = str(error)
        if type(error) not in PROMISED:
            return traceback.format_exc()
        if len(text) >= CHARACTERS or "\n" in text:
            return f"{len(text)} characters: {text[:400]!r}"
        tally.refused[type(error).__name__] += 1
    except Exception:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    return ""


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> int:
    from kinds import KINDS

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    begun = time.perf_counter()
    tally = run(options.kind, options.runs, options.seed, options.first)
    refused = ", ".join(f"{n} {name}" for name, n in sorted(tally.refused.items()))
    print(
        f"{options.kind}: {tally.runs} files in {time.perf_counter() - begun:.0f} s; refused: "
        f"{refused}; slowest {tally.slowest:.2f} s; peak memory +{tally.grown:.2f} GB"
    )
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main())
