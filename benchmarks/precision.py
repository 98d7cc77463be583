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
from circuit_nb.analysis import common_nodes, compare, edges_between, influence
from circuit_nb.graph import Feature


def ranks(graph: AttributionGraph, features: list[Feature]) -> np.ndarray:
    """Rank of each feature by influence within those given."""
    strength = influence(graph)[[graph.number(f) for f in features]]
    return np.argsort(np.argsort(-strength))


def overlap(first: AttributionGraph, second: AttributionGraph) -> str:
    """Share of the first graph's nodes that the second has too, with the counts."""
    shared = len(common_nodes(first, second)[0])
    return f"{shared / len(first.nodes):.1%} of {len(first.nodes)}, {len(first.features)} features"


def edge_changes(first: AttributionGraph, second: AttributionGraph) -> np.ndarray:
    """|change| of every edge between nodes of both graphs, over the largest edge of the first."""
    pairs = zip((first, second), common_nodes(first, second), strict=True)
    x, y = (edges_between(graph, nodes) for graph, nodes in pairs)
    return (np.abs(x - y) / np.abs(x).max()).ravel()


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
    print(f"| of the 1,000 most influential features, the same | {len(both.shared)} |")
    changes = edge_changes(exact, narrow)
    print(f"| largest change of an edge, of the largest edge | {changes.max():.2%} |")
    print(f"| 99.9 % of edges change by less than | {np.quantile(changes, 0.999):.3%} |")
    print(f"| correlation of influence ranks | {np.corrcoef(a, b)[0, 1]:.4f} |")
    print(f"| of the 100 most influential features, in both graphs | {len(top)} |")
    # At the usual 0.8 only errors are left: random transcoders explain nothing.
    small, other = (prune(g, node_mass=0.98, edge_mass=0.98) for g in (exact, narrow))
    print(f"| pruned at 0.98 / 0.98: nodes kept in both | {overlap(small, other)} |")
    for name, before, after in zip(
        ("replacement", "completeness"), scores(exact), scores(narrow), strict=True
    ):
        print(f"| {name} score | {after:.4f} instead of {before:.4f} |")


if __name__ == "__main__":
    main()
