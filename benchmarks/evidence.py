"""What the measures of `circuit_nb.evidence` cost, beside the same runs one by one.

    python benchmarks/evidence.py

The embedded model on the Dallas prompt, one thread. A measure's time is the median of three. One by
one are the interventions that it hands on, each list in an `intervene` of its own; of more than 60
lists every so many-th is run, between the measure's runs, so that other work falls on both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

import torch

from circuit_nb import Intervention, Supernode, atlas, attribute, evidence, intervene, load
from circuit_nb.evidence import experiments
from circuit_nb.intervention import Outcome
from circuit_nb.model import ReplacementModel

NAMES = ("capital", "Texas", "say a capital", "say Austin")
RUNS, ALONE = 3, 60
Lists = list[Sequence[Intervention]]


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def handed_on(measure: Callable[[], object]) -> Lists:
    """The lists of interventions that a measure runs."""
    lists: Lists = []
    batched = experiments.intervene_many

    def listening(model: ReplacementModel, prompt: Any, rows: Lists, **given: Any) -> list[Outcome]:
        lists.extend(rows)
        return batched(model, prompt, rows, **given)

    with mock.patch.object(experiments, "intervene_many", listening):
        measure()
    return lists


def main() -> None:
    torch.set_num_threads(1)
    model = load("atlas")
    graph = attribute(model, atlas.DALLAS, progress=False)
    found = atlas.supernodes(graph.features)
    parts = [Supernode(name, found[name]) for name in NAMES]
    ten = [Supernode(str(i), [tuple(row)]) for i, row in enumerate(graph.features.tolist()[-10:])]
    measures: list[tuple[str, Callable[[], object]]] = [
        (
            "faithfulness, 4 parts, 20 draws",
            lambda: evidence.faithfulness(model, graph, parts, progress=False),
        ),
        ("verify, 50 features", lambda: evidence.verify(model, graph, progress=False)),
        (
            "combinations, 10 parts",
            lambda: evidence.combinations(model, graph, ten, progress=False),
        ),
        ("sweep", lambda: evidence.sweep(model, graph, parts[1], progress=False)),
    ]
    print("| measure | runs | time | one by one |")
    print("|---|---|---|---|")
    for name, measure in measures:
        lists = handed_on(measure)
        some = lists[:: -(-len(lists) // ALONE)]
        took, alone = [], []
        for turn in range(RUNS):
            took.append(seconds(measure))
            for changes in some[turn::RUNS]:
                one = partial(intervene, model, graph.prompt, changes, freeze="attention")
                alone.append(seconds(one))
        ratio = len(lists) * sum(alone) / len(alone) / median(took)
        print(f"| {name} | {len(lists):,} | {median(took):.2f} s | {ratio:.0f} × |")


if __name__ == "__main__":
    main()
