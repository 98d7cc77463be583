"""How far bfloat16 weights move a graph; its linear map is computed in float32 either way.

    python benchmarks/precision.py

SmolLM2-135M-Instruct with random transcoders (see `smollm.py`), 1,000 rows, 11 tokens.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from smollm import PROMPT, prepare

from circuit_nb import AttributionGraph, attribute, load, prune, scores
from circuit_nb.analysis import compare, influence
from circuit_nb.graph import Feature


def ranks(graph: AttributionGraph, features: list[Feature]) -> np.ndarray:
    """Rank of each feature by influence within those given."""
    strength = influence(graph)[[graph.number(f) for f in features]]
    return np.argsort(np.argsort(-strength))


def overlap(first: AttributionGraph, second: AttributionGraph) -> str:
    both = compare(first, second)
    n = len(both.shared)
    return f"{n / (n + len(both.only_first)):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache/circuit-nb-benchmark")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    prepare(options.folder)
    graphs = {}
    for kind in ("float32", "bfloat16"):
        model = load(
            options.folder / "model",
            options.folder / "plt",
            device="cpu",
            dtype=getattr(torch, kind),
        )
        graphs[kind] = attribute(model, PROMPT, max_features=1000, progress=False)
    exact, narrow = graphs["float32"], graphs["bfloat16"]
    both = compare(exact, narrow)
    a, b = ranks(exact, list(both.shared)), ranks(narrow, list(both.shared))
    top = [f for f, rank in zip(both.shared, a, strict=True) if rank < 100]
    print("| bfloat16 weights and activations, against float32 | |")
    print("|---|---|")
    print(f"| active features | {narrow.n_active:,} instead of {exact.n_active:,} |")
    print(f"| of the 1,000 most influential, the same | {overlap(exact, narrow)} |")
    print(
        f"| largest change of an edge, of the largest edge | {both.largest_edge_difference:.1%} |"
    )
    print(f"| correlation of influence ranks | {np.corrcoef(a, b)[0, 1]:.4f} |")
    print(f"| of the 100 most influential, in both graphs | {len(top)} |")
    print(f"| pruned at 0.8 / 0.98: nodes kept in both | {overlap(prune(exact), prune(narrow))} |")
    for name, before, after in zip(
        ("replacement", "completeness"), scores(exact), scores(narrow), strict=True
    ):
        print(f"| {name} score | {after:.4f} instead of {before:.4f} |")


if __name__ == "__main__":
    main()
