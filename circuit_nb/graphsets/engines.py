"""Where prompts are computed: in this process, in processes on this machine, or by Ray.

An engine takes a job and its tasks, and says one by one what is done, in any order. What it needs
to be told is in its fields.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import Protocol

import torch

from circuit_nb.graphsets.work import Done, Job, Task, batches, compute, failed
from circuit_nb.model.replacement import ReplacementModel

DEATHS = 2
"""So often may a process die over one prompt before it counts as failed."""


class Engine(Protocol):
    """Something that computes tasks."""

    def run(self, model: ReplacementModel, job: Job, tasks: Sequence[Task]) -> Iterator[Done]:
        """Compute tasks; yields each when it is done or has failed, in any order."""
        ...


@dataclass(frozen=True)
class Here:
    """This process, short prompts together."""

    def run(self, model: ReplacementModel, job: Job, tasks: Sequence[Task]) -> Iterator[Done]:
        """See `Engine.run`."""
        for batch in batches(model, tasks):
            yield from compute(model, job, batch)


@dataclass(frozen=True)
class Processes:
    """Processes on this machine. Each opens the model itself; weights in files are mapped, so that
    all share what is in memory.

    A script that uses them keeps its own code under `if __name__ == "__main__":`, as everywhere
    in `multiprocessing`; a notebook needs nothing.
    """

    workers: int | None = None
    """How many; by default one a processor core this process may use."""

    def run(self, model: ReplacementModel, job: Job, tasks: Sequence[Task]) -> Iterator[Done]:
        """See `Engine.run`.

        A process that is killed takes the pool with it: another is started. The prompts that were
        in work are then computed alone, so that one that kills its process is found.

        Raises:
            RuntimeError: If processes cannot be started, or cannot open the model.
        """
        n = max(1, min(self.workers or _cores(), len(tasks)))
        waiting, suspects, idle = deque(tasks), deque[Task](), 0
        while waiting or suspects:
            pool, finished = _pool(n, job), 0
            lost: list[Task] = []
            try:
                while suspects and not lost:
                    for done in _through(pool, suspects, 1, lost):
                        finished += 1
                        yield done
                if not lost:
                    for done in _through(pool, waiting, 2 * n, lost):
                        finished += 1
                        yield done
            finally:
                # An interrupt waits for the graphs in work: they are not lost.
                pool.shutdown(wait=True, cancel_futures=True)
            idle = 0 if finished else idle + 1
            if len(lost) == 1 and idle >= DEATHS:
                reason = "the process that computed it was killed, or ran out of memory"
                yield failed(job, lost.pop(), f"{reason}, {DEATHS} times")
                idle = 0
            elif idle > DEATHS:
                raise RuntimeError(
                    "Processes die as soon as they start. In a script, put what calls this under "
                    "`if __name__ == '__main__':`; with little memory, give fewer workers."
                )
            suspects.extendleft(reversed(lost))


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _pool(n: int, job: Job) -> ProcessPoolExecutor:
    threads = max(1, torch.get_num_threads() // n)
    # Not forked: a copy of a process that has run threads may wait for them forever.
    return ProcessPoolExecutor(n, get_context("spawn"), _begin, (job, threads))


def _through(
    pool: ProcessPoolExecutor, tasks: deque[Task], window: int, lost: list[Task]
) -> Iterator[Done]:
    """Compute tasks, so many in work at a time; those in work when the pool breaks are `lost`."""
    running: dict[Future[Done], Task] = {}
    try:
        while tasks or running:
            while tasks and len(running) < window:
                running[pool.submit(_compute, tasks[0])] = tasks[0]
                tasks.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done = future.result()
                del running[future]
                yield done
    except BrokenProcessPool:
        lost += running.values()


_job: Job | None = None
_model: ReplacementModel | None = None


def _begin(job: Job, threads: int) -> None:
    """Make a new process ready: it ends with its parent, and leaves interrupts to it."""
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    torch.set_num_threads(threads)


def _compute(task: Task) -> Done:
    global _model
    assert _job is not None
    if _model is None:
        _model = _job.source.open()
    return next(compute(_model, _job, [task]))
