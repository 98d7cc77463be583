"""Speed and memory of attribution and intervention, beside circuit-tracer on the same weights.

    python benchmarks/attribution.py --peer /path/to/peer/bin/python

The peer's environment holds circuit-tracer==0.5.0 and torch==2.13.0. Each measurement runs in a
fresh process; ours and the peer's alternate. Loading is not counted. Ratios are of first runs; ours
goes on, and its fastest run of five (or of those that fit into ten seconds) is set beside the
"floor": the time that carrying every row back by itself would take if all of it were large matrix
products, at the rate of this machine, measured in the same process. Memory is the peak over what
was allocated once both model and transcoders were loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from smollm import prepare

HERE = Path(__file__).parent
TABLES: dict[str, list[dict[str, Any]]] = {
    "rows": [{"rows": rows} for rows in (250, 1000, 4000, None)],
    "length": [{"length": length, "rows": 500} for length in (11, 44, 176, 704)],
    "threads": [{"threads": threads} for threads in (1, 2)],
    "kind": [{"kind": kind} for kind in ("plt", "clt")],
    "intervene": [{"task": "intervene"}],
}
PEER_LONGEST = 44
"""The peer is not run on longer prompts unless asked: it takes minutes."""


def jobs(tables: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every measurement, with the table it belongs to."""
    usual = {"task": "attribute", "rows": 1000, "length": 11, "threads": 2, "kind": "plt"}
    for table in tables:
        for change in TABLES[table]:
            yield table, {**usual, **change}


def run(python: str, script: str, job: dict[str, Any]) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [python, str(HERE / script), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:80]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def edge_difference(ours: Path, theirs: Path, targets: int) -> float:
    """Largest difference of an edge between features and targets both have, over the largest."""
    a, b = load_file(ours), load_file(theirs)
    place = {tuple(row): i for i, row in enumerate(b["features"].tolist())}
    rows = [i for i, row in enumerate(a["features"].tolist()) if tuple(row) in place]
    there = [place[tuple(a["features"][i].tolist())] for i in rows]
    n_ours, n_theirs = len(a["features"]), len(b["edges"])
    ours_rows = [*rows, *range(n_ours, n_ours + targets)]
    their_rows = [*there, *range(n_theirs - targets, n_theirs)]
    x, y = a["weights"][np.ix_(ours_rows, rows)], b["edges"][np.ix_(their_rows, there)]
    return float(np.abs(x - y).max() / np.abs(y).max())


def logit_difference(ours: Path, theirs: Path) -> float:
    """Largest difference of a logit after the last intervention, over the largest logit."""
    x, y = (load_file(path)["logits"] for path in (ours, theirs))
    return float(np.abs(x - y).max() / np.abs(y).max())


def megabytes(result: dict[str, Any]) -> str:
    return f"{result['bytes'] / 2**20:,.0f} MiB"


def report(table: str, job: dict[str, Any], ours: dict[str, Any], peer: dict[str, Any]) -> str:
    """One line of a Markdown table."""
    rows = "all" if job["rows"] is None else str(job["rows"])
    name = f"{job['kind']}, {job['length']} tokens, {rows} rows, {job['threads']} threads"
    if "failed" in ours:
        return f"| {table} | {name} | failed: {ours['failed']} |"
    if job["task"] == "intervene":
        name = f"{len(job['changes'])} interventions, one pass each"
        line = f"| {table} | {name} | {ours['seconds']:.2f} s"
        line += f" (one batched pass: {ours['batched']:.2f} s) | | |"
    else:
        floor = ours["operations"] / ours["rate"]
        line = (
            f"| {table} | {name}, {ours['active']:,} active "
            f"| {ours['seconds']:.2f} s, fastest {ours['best']:.2f} s "
            f"| {ours['operations'] / 1e12:.3f} TFLOP at {ours['rate'] / 1e9:.0f} GFLOP/s: "
            f"{ours['best'] / floor:.2f} × floor | {megabytes(ours)} |"
        )
    if "seconds" not in peer:
        return f"{line} {peer.get('failed', 'not run')} | | |"
    ratio = peer["seconds"] / ours["seconds"]
    memory = f"{peer['bytes'] / max(ours['bytes'], 1):.1f} ×" if peer["bytes"] else ""
    difference = f"{peer['difference']:.1e}" if "difference" in peer else ""
    return f"{line} {peer['seconds']:.1f} s, **{ratio:.1f} ×** | {memory} | {difference} |"


def measure(job: dict[str, Any], folder: Path, peer: str | None, longest: int) -> tuple[dict, dict]:
    """Ours, and the peer's where it can be run."""
    paths = {side: folder / f"{side}.safetensors" for side in ("ours", "peer")}
    job["folder"], job["peer_batch"] = str(folder), 128
    if job["task"] == "intervene":
        rng = np.random.default_rng(0)
        job["changes"] = [
            [int(rng.integers(30)), int(rng.integers(1, 11)), int(rng.integers(4096)), 1.0]
            for _ in range(20)
        ]
    ours = run(sys.executable, "our_worker.py", {**job, "edges": str(paths["ours"])})
    if peer is None or "failed" in ours or job["length"] > longest:
        return ours, {}
    theirs = run(peer, "peer_worker.py", {**job, "edges": str(paths["peer"])})
    if "seconds" in ours and "seconds" in theirs:
        if job["task"] == "intervene":
            theirs["difference"] = logit_difference(*paths.values())
        else:
            theirs["difference"] = edge_difference(*paths.values(), ours["targets"])
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="Python of an environment with circuit-tracer==0.5.0")
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache/circuit-nb-benchmark")
    parser.add_argument("--peer-longest", type=int, default=PEER_LONGEST, metavar="TOKENS")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    prepare(options.folder)
    print("| table | what | ours | of the floor | memory | peer | memory | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for table, job in jobs(options.tables):
        found = measure(job, options.folder, options.peer, options.peer_longest)
        print(report(table, job, *found), flush=True)


if __name__ == "__main__":
    main()
