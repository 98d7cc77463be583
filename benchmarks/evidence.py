"""What the measures of `circuit_nb.evidence` cost, beside the same runs one by one.

    python benchmarks/evidence.py

The embedded model on the Dallas prompt, one thread. A measure's time is the median of three; the
runs one by one are the same number of `intervene`, each with a feature off; 40 of them are timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from circuit_nb import Intervention, Supernode, atlas, attribute, evidence, intervene, load
from circuit_nb.graph import Feature

NAMES = ("capital", "Texas", "say a capital", "say Austin")
RUNS, ALONE = 3, 40


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(1)
    model = load("atlas")
    graph = attribute(model, atlas.DALLAS, progress=False)
    found = atlas.supernodes(graph.features)
    parts = [Supernode(name, found[name]) for name in NAMES]
    ten = [Supernode(str(i), [tuple(row)]) for i, row in enumerate(graph.features.tolist()[-10:])]
    features = [Feature(*row) for row in graph.features.tolist()[:ALONE]]
    for feature in features[:3]:
        intervene(model, graph.prompt, [Intervention.ablate(feature)])
    one = seconds(
        lambda: [intervene(model, graph.prompt, [Intervention.ablate(f)]) for f in features]
    )
    one /= ALONE
    points = len(evidence.curve_sizes(graph.n_active))
    measures: list[tuple[str, int, Callable[[], object]]] = [
        (
            "faithfulness, 4 parts, 20 draws",
            3 + 4 + 20 + points * 21,
            lambda: evidence.faithfulness(model, graph, parts, progress=False),
        ),
        ("verify, 50 features", 50, lambda: evidence.verify(model, graph, progress=False)),
        (
            "combinations, 10 parts",
            1024,
            lambda: evidence.combinations(model, graph, ten, progress=False),
        ),
        ("sweep", 21, lambda: evidence.sweep(model, graph, parts[1], progress=False)),
    ]
    print(f"one by one: {1000 * one:.1f} ms a run\n")
    print("| measure | runs | time | one by one |")
    print("|---|---|---|---|")
    for name, n, measure in measures:
        measure()
        took = median(seconds(measure) for _ in range(RUNS))
        print(f"| {name} | {n:,} | {took:.2f} s | {n * one / took:.0f} × |")


if __name__ == "__main__":
    main()
