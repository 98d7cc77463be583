"""A cross-layer set whose decoders are larger than memory: opening it, and attributing with it.

    python benchmarks/large_clt.py

30 layers of 65,536 features for SmolLM2-135M, 35 GB of bf16 decoders in sparse files. One feature
in 250 has a bias that makes it fire everywhere; everything else is zero.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import struct
import tempfile
import time
from pathlib import Path

import torch
import yaml
from smollm import PROMPT, prepare

from circuit_nb import attribute, load
from circuit_nb.transcoders.formats import open_transcoders

N_LAYERS, N_FEATURES, D_MODEL = 30, 65_536, 576
EVERY = 250


def sparse_file(path: Path, shapes: dict[str, tuple[int, ...]], bias: str = "") -> int:
    """A bf16 safetensors file that takes no disk but for one bias; returns its size."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
        if bias:
            values = torch.zeros(N_FEATURES, dtype=torch.bfloat16)
            values[::EVERY] = 1
            file.seek(8 + len(text) + header[bias]["data_offsets"][0])
            file.write(values.view(torch.uint8).numpy().tobytes())
    return end


def write(folder: Path) -> int:
    """Write the set; returns the size of its decoders in bytes."""
    config = {
        "model_name": "SmolLM2-135M-Instruct",
        "model_kind": "cross_layer_transcoder",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    size = 0
    for i in range(N_LAYERS):
        encoder = {
            f"W_enc_{i}": (N_FEATURES, D_MODEL),
            f"b_enc_{i}": (N_FEATURES,),
            f"b_dec_{i}": (D_MODEL,),
        }
        sparse_file(folder / f"W_enc_{i}.safetensors", encoder, f"b_enc_{i}")
        decoder = {f"W_dec_{i}": (N_FEATURES, N_LAYERS - i, D_MODEL)}
        size += sparse_file(folder / f"W_dec_{i}.safetensors", decoder)
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache/circuit-nb-benchmark")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    prepare(options.folder)
    folder = Path(tempfile.mkdtemp())
    try:
        size = write(folder)
        start = time.perf_counter()
        open_transcoders(folder)
        opened = time.perf_counter() - start
        model = load(options.folder / "model", folder, device="cpu", keep_encoders=False)
        start = time.perf_counter()
        graph = attribute(model, PROMPT, max_features=200, progress=False)
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"decoders {size / 1e9:.0f} GB, opened in {opened:.2f} s")
        print(f"{graph!r} in {seconds:.1f} s; peak of the whole process {memory:.1f} GiB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
