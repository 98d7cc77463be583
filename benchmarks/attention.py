"""What `heads` and `looking` cost beside the graph rows of the same targets.

    python benchmarks/attention.py

SmolLM2-135M-Instruct with random transcoders (see `smollm.py`), one thread, processor time. `heads`
is timed for
100 edges in three shapes; the rows are those that `attribute` computes for as many targets, with
all it has to read for them. Each figure is the median of three runs, taken in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from measuring import peak_memory_above, tokens_of
from smollm import prepare

from circuit_nb import attribute, load
from circuit_nb.analysis import influence
from circuit_nb.attribution import heads, looking
from circuit_nb.graph import TargetNode

SHAPES = ((100, 1), (10, 10), (1, 100))
"""Sources and targets of 100 edges."""
RUNS = 3


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache/circuit-nb-benchmark")
    parser.add_argument("--kind", choices=("plt", "clt"), default="plt")
    parser.add_argument("--length", type=int, nargs="+", default=[11, 64])
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    prepare(options.folder)
    model = load(options.folder / "model", options.folder / options.kind, device="cpu")
    print("| tokens | what | time | against the rows | memory |")
    print("|---|---|---|---|---|")
    for length in options.length:
        prompt = tokens_of(model.tokenizer, length)
        graph = attribute(model, prompt, max_features=200, progress=False)
        order = np.argsort(-influence(graph)[graph.blocks.features], kind="stable")
        features = [graph.nodes[i] for i in order.tolist()]
        for n_sources, n_targets in SHAPES:
            # Targets high up, sources low down, so that many blocks lie between.
            by_layer = sorted(features, key=lambda f: f.layer)
            sources, targets = by_layer[:n_sources], [TargetNode(0), *by_layer[::-1]][:n_targets]
            measure(model, graph, prompt, length, sources, targets)
        last = length - 1

        def look(graph=graph, last=last) -> object:
            return looking(model, graph, len(model.blocks) - 1, 0, last, last - 3, "mean")

        look()
        took = median(seconds(look) for _ in range(RUNS))
        with peak_memory_above() as peak:
            look()
        print(
            f"| {length} | one score, last block | {took:.2f} s | | {peak.value / 2**20:.0f} MiB |"
        )


def measure(model, graph, prompt, length, sources, targets) -> None:
    def rows() -> object:
        return attribute(model, prompt, max_logits=1, max_features=len(targets), progress=False)

    def through() -> object:
        return heads(model, graph, sources, targets)

    rows(), through()
    taken = [(seconds(rows), seconds(through)) for _ in range(RUNS)]
    with peak_memory_above() as peak:
        through()
    ours = median(b for _, b in taken)
    ratio = median(b / a for a, b in taken)
    what = f"{len(sources)} sources × {len(targets)} targets"
    print(f"| {length} | {what} | {ours:.2f} s | {ratio:.2f} × | {peak.value / 2**20:.0f} MiB |")


if __name__ == "__main__":
    main()
