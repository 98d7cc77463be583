"""Memory and time of attribution on long prompts, of the whole process.

    python benchmarks/long_prompts.py

SmolLM2-135M-Instruct with random transcoders (see `smollm.py`), fp32.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from smollm import prepare

CASES = ((704, 500), (2048, 200))
CODE = """
import json, resource, sys, time, torch
from pathlib import Path
from measuring import tokens_of
from circuit_nb import attribute, load
job = json.loads(sys.argv[1])
torch.set_num_threads(job["threads"])
folder = Path(job["folder"])
model = load(folder / "model", folder / "plt", device="cpu")
ids = torch.tensor(tokens_of(model.tokenizer, job["length"]))
start = time.perf_counter()
graph = attribute(model, ids, max_features=job["rows"], progress=False)
print(json.dumps({
    "seconds": time.perf_counter() - start,
    "active": graph.n_active,
    "columns_kept": graph.provenance.get("columns_kept"),
    "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache/circuit-nb-benchmark")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    prepare(options.folder)
    print("| tokens | active features | rows | seconds | peak of the whole process |")
    print("|---|---|---|---|---|")
    for length, rows in CASES:
        job = {"length": length, "rows": rows, "folder": str(options.folder)}
        job["threads"] = options.threads
        done = subprocess.run(
            [sys.executable, "-c", CODE, json.dumps(job)],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent,
        )
        if done.returncode:
            print(f"| {length} | failed: {done.stderr.strip().splitlines()[-1]} |")
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"| {length:,} | {found['active']:,} | {rows} | {found['seconds']:.0f} "
            f"| {found['peak'] / 2**30:.1f} GiB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
