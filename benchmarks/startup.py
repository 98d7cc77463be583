"""Where the time goes between typing a command and the first graph.

    python benchmarks/startup.py

Each line is the best of three fresh processes. "ours" is what circuit-nb itself takes, with torch,
transformers and TransformerLens loaded before it.
"""

from __future__ import annotations

import subprocess
import sys
import time

HELP = """
import runpy, sys
sys.argv = ["circuit-nb", "--help"]
runpy.run_module("circuit_nb", run_name="__main__")
"""
STEPS = {"import circuit_nb": "import circuit_nb", "circuit-nb --help": HELP}
FIRST_GRAPH = """
import time
marks = [time.perf_counter()]
import torch
marks.append(time.perf_counter())
import transformers.models.llama.modeling_llama
marks.append(time.perf_counter())
from transformer_lens.model_bridge import TransformerBridge
marks.append(time.perf_counter())
from circuit_nb import atlas, attribute, load, attribution, intervention
marks.append(time.perf_counter())
TransformerBridge.boot_transformers(str(atlas.model_folder()), device="cpu", dtype=torch.float32)
marks.append(time.perf_counter())
model = load("atlas", device="cpu")
marks.append(time.perf_counter())
attribute(model, atlas.DALLAS, progress=False)
marks.append(time.perf_counter())
print(*(b - a for a, b in zip(marks, marks[1:])))
"""
PARTS = (
    "import torch",
    "import transformers (Llama)",
    "import TransformerLens",
    "import circuit-nb's modules",
    "TransformerLens opens the model",
    "load('atlas'), TransformerLens's part included",
    "first graph",
)


def best(code: str, runs: int = 3) -> tuple[float, list[float]]:
    """Seconds of the fastest run, and the numbers it printed last."""
    found: list[tuple[float, list[float]]] = []
    for _ in range(runs):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        seconds = time.perf_counter() - start
        last = done.stdout.strip().splitlines()[-1:] or [""]
        try:
            numbers = [float(x) for x in last[0].split()]
        except ValueError:
            numbers = []
        found.append((seconds, numbers))
    return min(found)


def main() -> None:
    nothing, _ = best("pass")
    print(f"an empty Python process: {nothing:.2f} s")
    for name, code in STEPS.items():
        print(f"{name}: {best(code)[0] - nothing:.2f} s on top of that")
    _, parts = best(FIRST_GRAPH)
    for name, seconds in zip(PARTS, parts, strict=True):
        print(f"{name}: {seconds:.2f} s")
    ours = parts[3] + max(parts[5] - parts[4], 0) + parts[6]
    print(f"from import to the first graph: {sum(parts) - parts[4]:.2f} s, of it ours {ours:.2f} s")


if __name__ == "__main__":
    main()
