"""Memory of attribution on Gemma-2-2B, by phase, against a budget for a GPU of 15 GB.

    python benchmarks/memory.py

Writes a random model of Gemma-2-2B's dimensions with 16,384 features a layer (see
`gemma_shaped.py`; 12 GB in a temporary folder, deleted afterwards; the vocabulary is cut to 32,000
tokens), loads it in bfloat16 as a user would, and attributes prompts of 11 and 64 tokens on the
CPU, each in a process of its own. Two things are measured: bytes of all tensors alive, which is
what a GPU would hold, and memory the process allocated (`RssAnon`, sampled), which leaves out
weights that are mapped from their files. 1 GB is 10^9 bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from allocations import Allocations, bytes_of
from gemma_shaped import FULL_VOCABULARY, Shape, prompt, write
from measuring import _allocated

from circuit_nb import attribute, load
from circuit_nb.attribution.rows import Rows
from circuit_nb.frozen.descent import FrozenModel
from circuit_nb.frozen.tuning import (
    KEPT_BYTES,
    LARGE_BATCH_BYTES,
    RAISED_BYTES,
    SPAN_BYTES,
)
from circuit_nb.frozen.written import Decoders
from circuit_nb.model import ReplacementModel

GPU_GB = 15.0
CUDA_GB = 0.8
"""Assumed for the CUDA context, cuBLAS's workspace and the allocator's gaps; not measured here."""

WEIGHTS, ENCODERS, PASS, SOURCES, ROWS, RESULT = (
    "loaded weights",
    "encoders",
    "recorded pass",
    "sources",
    "rows",
    "result on the CPU",
)
STEPS: tuple[tuple[str, type[Any], str], ...] = (
    (PASS, ReplacementModel, "record"),
    (SOURCES, Decoders, "__init__"),
    (ROWS, FrozenModel, "__init__"),
    (ROWS, Rows, "next"),
    (RESULT, Rows, "take_matrix"),
)
"""What a phase begins with."""


@dataclass(frozen=True)
class Need:
    """What one phase holds on the accelerator, in bytes."""

    formula: str
    stays: int
    """Kept for later phases."""
    passes: int = 0
    """Needed only within the phase."""


def budget(shape: Shape, length: int, rows: int) -> dict[str, Need]:
    """Bytes by phase for a prompt of so many tokens; P parameters, L layers, T tokens, A active."""
    s, t = shape, length
    active = s.layers * s.active * (t - 1)
    matrix = 4 * s.d_model * s.d_head * (s.heads + s.kv_heads)
    columns = active + s.layers * (t - 1) + t
    per_row = 4 * (t * (2 * s.d_model + 3 * s.heads * s.d_head) + 2 * columns)
    # Influence is estimated anew when half of the rows are known.
    batch = max(1, min(rows // 2, LARGE_BATCH_BYTES // per_row))
    written = 4 * columns * s.d_model
    laid_out = 0 if written <= KEPT_BYTES else 2 * SPAN_BYTES
    kept = s.layers * t * (6 * s.d_model + 2 * s.heads * t) + 2 * t * s.d_model
    raised = 4 * s.d_model * t**2
    raised = raised if raised <= RAISED_BYTES else 0
    return {
        WEIGHTS: Need(
            "2 P, and the bridge's bias for the unembedding",
            2 * (s.parameters + s.vocabulary) + 8 * s.d_head,
        ),
        ENCODERS: Need(
            "2 L features d_model; one layer in the file's float32 while it is read",
            2 * s.layers * s.features * s.d_model,
            4 * s.features * s.d_model,
        ),
        PASS: Need(
            "L T (6 d_model + 2 heads T) + 2 T d_model; the logits of one position, and the "
            "mean of the unembedding in pieces",
            kept,
            6 * s.vocabulary + 4 * s.d_model * 2**15,
        ),
        SOURCES: Need(
            "4 A d_model (float32 decoder rows, each active once, or what they write); one layer "
            "of it thrice",
            written,
            3 * written // s.layers,
        ),
        ROWS: Need(
            "gradients of a batch, by residual stream and by head, and its edges, each twice; "
            "float32 matrices of a layer, thrice; its pattern, twice; two spans of 16 MiB of what "
            "was written, if it is not kept; or five times 4 T² d_model for what tokens have above "
            "the first attention, if that is below 16 MiB",
            raised,
            max(batch * per_row + 3 * matrix + 8 * s.heads * t**2 + laid_out, 4 * raised),
        ),
    }


@dataclass
class Sampled:
    """The most memory the process had allocated, by phase."""

    phase: str = WEIGHTS
    peaks: dict[str, int] = field(default_factory=dict)

    def look(self) -> None:
        self.peaks[self.phase] = max(self.peaks.get(self.phase, 0), _allocated())


@contextmanager
def sampled() -> Iterator[Sampled]:
    """Sample every few milliseconds inside the block."""
    seen, done = Sampled(), threading.Event()

    def sample() -> None:
        while not done.wait(0.005):
            seen.look()

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield seen
    finally:
        done.set()
        sampler.join()


@contextmanager
def followed(enter: Callable[[str, Any], None]) -> Iterator[None]:
    """Inside the block, call `enter(phase, object)` whenever a phase begins."""
    real = [(owner, method, getattr(owner, method)) for _, owner, method in STEPS]
    for (name, *_), (owner, method, function) in zip(STEPS, real, strict=True):

        def begun(self: Any, *args: Any, _begins: Any = (name, function), **kwargs: Any) -> Any:
            phase, function = _begins
            enter(phase, self)
            return function(self, *args, **kwargs)

        setattr(owner, method, begun)
    try:
        yield
    finally:
        for owner, method, function in real:
            setattr(owner, method, function)


def measure(folder: Path, shape: Shape, length: int, n_rows: int) -> dict[str, Any]:
    """Bytes by phase: of tensors, and of the process, which should do nothing else."""
    edges = batch_edges = 0
    with sampled() as process:
        model = load(folder / "model", folder / "transcoders", device="cpu", dtype=torch.bfloat16)
        hf_model = model.bridge.original_model
        weights = bytes_of([*hf_model.parameters(), *hf_model.buffers()])
        counted = Allocations()

        def enter(phase: str, where: Any) -> None:
            nonlocal edges, batch_edges
            process.phase = counted.phase = phase
            if phase == RESULT:
                edges = sum(block.edges.nbytes for block in where.known._blocks)
                batch_edges = edges // 2

        with followed(enter), counted:
            enter(ENCODERS, None)
            for layer in model.transcoders.layers:
                layer.encoder_rows(torch.tensor([0]))
            graph = attribute(model, prompt(shape, length), max_features=n_rows, progress=False)
        process.look()
    tensors = {phase: weights + peak for phase, peak in counted.peaks.items() if phase}
    # On an accelerator, a batch's edges are put together there; all of them are kept on the CPU.
    tensors[ROWS] += batch_edges - edges
    return {
        "weights": weights,
        "buffers": bytes_of(hf_model.buffers()),
        "largest": max(size for phase, size in counted.largest.items() if phase),
        "tensors": {WEIGHTS: weights, **tensors},
        "process": process.peaks,
        "edges": edges,
        "rows": len(graph.features) + len(graph.targets),
        "active": graph.n_active,
    }


def report(shape: Shape, found: dict[int, dict[str, Any]], rows: int) -> str:
    """The table, in Markdown."""
    full = replace(shape, vocabulary=FULL_VOCABULARY)
    lengths = list(found)
    head = ["held on the GPU, GB", *(f"{n} tokens: measured (budget)" for n in lengths)]
    head += [f"full vocabulary, {n} tokens: budget" for n in lengths]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    needs = {n: (budget(shape, n, rows), budget(full, n, rows)) for n in lengths}
    so_far = dict.fromkeys(lengths, (0, 0))
    most = dict.fromkeys(lengths, 0)
    for phase in (WEIGHTS, ENCODERS, PASS, SOURCES, ROWS):
        cells, wide = [], []
        for n in lengths:
            cut_stays, full_stays = so_far[n]
            cut, whole = (need[phase] for need in needs[n])
            measured = found[n]["tensors"][phase]
            cells.append(f"{measured / 1e9:.2f} ({(cut_stays + cut.stays + cut.passes) / 1e9:.2f})")
            peak = full_stays + whole.stays + whole.passes
            wide.append(f"{peak / 1e9:.2f}")
            most[n] = max(most[n], peak)
            so_far[n] = (cut_stays + cut.stays, full_stays + whole.stays)
        lines.append("| " + " | ".join([phase, *cells, *wide]) + " |")
    total = [f"**{most[n] / 1e9 + CUDA_GB:.1f}**" for n in lengths]
    cells = [f"**{max(found[n]['tensors'][p] for p in needs[n][0]) / 1e9 + CUDA_GB:.1f}**"
             for n in lengths]  # fmt: skip
    lines.append("| " + " | ".join([f"most, and {CUDA_GB} for CUDA", *cells, *total]) + " |")
    return "\n".join([*lines, "", *_notes(shape, found, rows)])


def _notes(shape: Shape, found: dict[int, dict[str, Any]], rows: int) -> Iterator[str]:
    extra = 2 * (FULL_VOCABULARY - shape.vocabulary) * shape.d_model
    yield (
        f"{shape.parameters / 1e9:.2f} billion parameters with {shape.vocabulary:,} tokens; the "
        f"other {FULL_VOCABULARY - shape.vocabulary:,} are {extra / 1e9:.2f} GB of weights."
    )
    for name, need in budget(shape, next(iter(found)), rows).items():
        yield f"- {name}: {need.formula}"
    for length, result in found.items():
        process = ", ".join(f"{name} {n / 1e9:.2f}" for name, n in result["process"].items())
        yield (
            f"{length} tokens: {result['active']:,} active features, {result['rows']:,} rows, "
            f"their edges {result['edges'] / 1e9:.2f} GB on the CPU. Allocated by the process, GB: "
            f"{process}."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the files there, or use those there")
    parser.add_argument("--lengths", type=int, nargs="+", default=[11, 64])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=Shape.vocabulary)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = Shape(vocabulary=options.vocabulary)
    if options.one:
        print(json.dumps(measure(options.folder, shape, options.lengths[0], options.rows)))
        return
    folder = options.folder or Path(tempfile.mkdtemp())
    try:
        if not (folder / "transcoders" / "config.yaml").is_file():
            write(folder, shape)
        found = {n: _run(folder, n, options) for n in options.lengths}
        print(report(shape, found, options.rows))
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


def _run(folder: Path, length: int, options: argparse.Namespace) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--one", "--folder", str(folder)]
    command += ["--lengths", str(length), "--rows", str(options.rows)]
    command += ["--vocabulary", str(options.vocabulary)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
