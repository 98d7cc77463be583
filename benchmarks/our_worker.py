"""One measurement in circuit-nb; run by `attribution.py` in a process of its own.

Prints one JSON line: seconds (of the first run, and the fastest of a few), peak extra bytes,
operations, and the machine's rate.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from measuring import matmul_rate, peak_memory_above, tokens_of
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from circuit_nb import AttributionGraph, Feature, Intervention, attribute, intervene, load
from circuit_nb.intervention import intervene_many

RUNS, ENOUGH = 5, 10.0
"""Attribution is run so often, or until so many seconds have passed."""


def operations(model: Any, graph: AttributionGraph, record: Any) -> float:
    """Floating-point operations of carrying every row back by itself, two for a multiply-add.

    One pass of model and encoders over the prompt, of the unembedding at its end. Then, for a row
    that reads at layer l and position p: the transposes of attention in every layer up to l
    (output matrix, causal pattern, value matrix) at positions up to p, and one dot product with
    everything written below l at those positions.
    """
    block = model.blocks[0]
    heads, d_head, d_model = block.W_O.shape
    kv_heads, n_layers = len(block.W_V), graph.n_layers
    written = torch.zeros(n_layers, len(graph.tokens))
    writes = model.transcoders.writes
    for layer, position, _ in record.features.tolist():
        written[list(writes(layer)), position] += 1
    written += 1  # the error
    below = torch.zeros(n_layers + 1, len(graph.tokens) + 1)
    below[1:, 1:] = written.cumsum(0).cumsum(1)
    blocks = sum(p.numel() for name, p in model.bridge.named_parameters() if "layers" in name)
    total = 2.0 * len(graph.tokens) * (blocks + model.transcoders.encoder_weights)
    total += 2.0 * model.unembedding.numel()
    last = len(graph.tokens) - 1
    rows = [*graph.features[:, :2].tolist(), *[[n_layers, last]] * len(graph.targets)]
    for layer, position in rows:
        n = position + 1
        attention = n * d_model * d_head * (heads + kv_heads) + heads * d_head * n * (n + 1) / 2
        passed = min(layer + 1, n_layers)
        total += 2 * (passed * attention + d_model * (float(below[layer, n]) + n))
    return total


def _attribute(model: Any, ids: Any, job: dict[str, Any]) -> dict[str, Any]:
    rate = matmul_rate()
    seconds: list[float] = []
    with peak_memory_above() as peak:
        while not seconds or (len(seconds) < RUNS and sum(seconds) < ENOUGH):
            graph = None  # the last run's, which would count
            model.record(ids[:2])  # the last pass is kept too, until another prompt's
            start = time.perf_counter()
            graph = attribute(model, ids, max_features=job["rows"], progress=False)
            seconds.append(time.perf_counter() - start)
    rate = max(rate, matmul_rate())
    save_file({"features": graph.features, "weights": graph.weights}, job["edges"])
    needed = operations(model, graph, model.record(ids))
    return {
        "seconds": seconds[0],
        "best": min(seconds),
        "bytes": peak.value,
        "operations": needed,
        "rate": rate,
        "active": graph.n_active,
        "targets": len(graph.targets),
    }


def _intervene(model: Any, ids: Any, job: dict[str, Any]) -> dict[str, Any]:
    changes = [Intervention.set(Feature(*c[:3]), c[3]) for c in job["changes"]]
    intervene(model, ids, changes[:1])
    start = time.perf_counter()
    for change in changes:
        intervene(model, ids, [change])
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    intervene_many(model, ids, [[change] for change in changes])
    batched = time.perf_counter() - start
    out = intervene(model, ids, changes[-1:], keep_logits="all")
    save_torch({"logits": torch.from_numpy(out.after.logits)}, job["edges"])
    return {"seconds": seconds, "batched": batched, "bytes": 0}


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    folder = Path(job["folder"])
    dtype = getattr(torch, job.get("dtype", "float32"))
    model = load(folder / "model", folder / job["kind"], device="cpu", dtype=dtype)
    for layer in model.transcoders.layers:
        layer.pre_activations(torch.zeros_like(layer.b_dec))  # read at first use: not timed
    ids = torch.tensor(tokens_of(model.tokenizer, job["length"]))
    model.run(ids[None])  # weights are mapped: read them before anything is timed
    task = _intervene if job["task"] == "intervene" else _attribute
    print(json.dumps(task(model, ids, job)))


if __name__ == "__main__":
    main()
