"""Two checkouts beside each other: how long attribution and a switch take in each.

    python benchmarks/commits.py OLD NEW [--weights FOLDER]

OLD and NEW are folders that hold the library at two commits, say of `git worktree add`. Each has a
process of its own that has loaded everything; the two are asked in turn, in an order that changes,
so that what else the machine does falls on both. A few pairs of processes are tried, since where a
process finds its memory changes its speed by percents. Printed are the ratio new / old of the
middle (median) run, with a 95 % interval from resampling pairs of runs within pairs of processes,
and of the fastest one. Without `--weights` (a folder that `smollm.prepare` fills) only the embedded
model is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PROMPT = "Fact: the capital of the state containing Dallas is"
TASKS = {"embedded": 60, "switch": 60, "smollm": 12}
"""What is measured, and runs of each in a pair of processes."""


def worker(tasks: list[str], weights: str | None) -> None:
    """Answer each line on stdin, a task's name, with the seconds that it took."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    import circuit_nb as cn

    small = cn.load("atlas")
    graph = cn.attribute(small, PROMPT)
    strongest = sorted(range(len(graph.features)), key=lambda i: -graph.activations[i])[:4]
    change = [cn.Intervention.ablate(cn.Feature(*map(int, graph.features[i]))) for i in strongest]
    do: dict[str, Callable[[], object]] = {
        "embedded": lambda: cn.attribute(small, PROMPT),
        "switch": lambda: cn.intervene(small, PROMPT, change),
    }
    if "smollm" in tasks:
        large = cn.load(f"{weights}/model", f"{weights}/plt")

        def smollm() -> None:
            cn.attribute(large, PROMPT, max_features=1000)

        do["smollm"] = smollm
    # Another prompt's record makes room for this one's, as for a reader's first run of a prompt.
    between = {"embedded": small, "switch": small, "smollm": large if weights else None}
    for task in tasks:
        do[task]()
    print("ready", flush=True)
    for line in sys.stdin:
        task = line.strip()
        model = between[task]
        model.record([0, 1])
        begun = time.perf_counter()
        do[task]()
        print(time.perf_counter() - begun, flush=True)


class Worker:
    """A process that measures one checkout."""

    def __init__(self, checkout: Path, tasks: list[str], weights: Path | None) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", json.dumps(tasks)]
        if weights:
            command += ["--weights", str(weights.resolve())]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command,
            cwd=checkout,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.answer() == "ready"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def seconds(self, task: str) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self) -> None:
        self.process.communicate()


def ratio(pairs: np.ndarray) -> tuple[float, float, float, float]:
    """Ratio of medians, its 95 % interval, and the ratio of the fastest.

    `pairs` is (processes, runs, 2): seconds of the old and of the new.
    """
    random = np.random.default_rng(0)
    n_processes, n_runs, _ = pairs.shape

    def middle(sample: np.ndarray) -> float:
        old, new = np.median(sample, axis=1).T
        return float(np.exp(np.log(new / old).mean()))

    drawn = []
    for _ in range(2000):
        some = pairs[random.integers(n_processes, size=n_processes)]
        runs = random.integers(n_runs, size=(n_processes, n_runs))
        drawn.append(middle(np.take_along_axis(some, runs[:, :, None], axis=1)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    fastest = pairs.min(axis=(0, 1))
    return middle(pairs), float(low), float(high), float(fastest[1] / fastest[0])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path, nargs="?")
    parser.add_argument("new", type=Path, nargs="?")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--processes", type=int, default=4, help="pairs of processes")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(json.loads(options.worker), options.weights)
        return
    tasks = [task for task in TASKS if task != "smollm" or options.weights]
    seconds: dict[str, list[list[tuple[float, float]]]] = {task: [] for task in tasks}
    for turn in range(options.processes):
        both = [Worker(folder, tasks, options.weights) for folder in (options.old, options.new)]
        for task in tasks:
            runs = []
            for run in range(TASKS[task]):
                order = (0, 1) if (run + turn) % 2 else (1, 0)
                took = {which: both[which].seconds(task) for which in order}
                runs.append((took[0], took[1]))
            seconds[task].append(runs)
        for one in both:
            one.close()
    print("| task | old, fastest | new, fastest | new / old, median | 95 % | fastest |")
    print("|---|---|---|---|---|---|")
    for task in tasks:
        pairs = np.array(seconds[task])
        middle, low, high, fastest = ratio(pairs)
        old, new = pairs.min(axis=(0, 1)) * 1000
        each = f"{old:.1f} ms | {new:.1f} ms"
        print(f"| {task} | {each} | {middle:.3f} | {low:.3f}–{high:.3f} | {fastest:.3f} |")


if __name__ == "__main__":
    main()
