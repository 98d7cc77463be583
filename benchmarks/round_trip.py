"""Sets trained here, opened by circuit-tracer: the same activations, the same reconstructions.

    python benchmarks/round_trip.py --peer /path/to/peer/bin/python

The peer's environment holds circuit-tracer==0.5.0 and torch==2.13.0. Small sets of each kind are
trained on the embedded model; both sides then read what its MLPs read on texts that were held out.
Left out is what its loader of local files does not know: TopK, and a skip path beside a CLT.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

KINDS: dict[str, dict[str, Any]] = {
    "per-layer": {},
    "per-layer, skip": {"skip": True},
    "cross-layer": {"cross_layer": True},
}
PLAN = {"features": 256, "k": 12, "tokens": 512, "epochs": 4, "activation": "jumprelu"}
CONFIG, GIVEN, FOUND = "config.yaml", "given.safetensors", "found.safetensors"


def ours(folder: Path) -> None:
    """Train a set of each kind, and write what it makes of the same inputs."""
    from circuit_nb import load, training
    from circuit_nb.atlas.world import load_world
    from circuit_nb.training.mlps import read
    from circuit_nb.training.sequences import Sequences

    prompt = "Fact: the capital of the {} containing {} is {}."
    texts = [
        prompt.format(place.kind, city, place.capital)
        for place in load_world().places
        for city in place.cities
    ]
    model = load("atlas")
    batch = next(Sequences(model, texts[:20], 128).batches(10_000, 0))
    for name, kind in KINDS.items():
        home = folder / name
        settings: dict[str, Any] = {**PLAN, **kind}
        found = training.train_transcoders(model, texts[20:], home, progress=False, **settings)
        inputs, _ = read(model, batch, found.input_hook, found.output_hook)
        layers = found.layers
        acts = [t.activate(t.pre_activations(x)) for t, x in zip(layers, inputs, strict=True)]
        written = [t.b_dec + t.skip(x) for t, x in zip(layers, inputs, strict=True)]
        for layer, (t, values) in enumerate(zip(layers, acts, strict=True)):
            rows = t.decoder.rows(torch.arange(values.shape[1]))
            for part, target in enumerate(found.writes(layer)):
                written[target] = written[target] + values @ rows[:, part]
        save_file({"inputs": torch.stack(inputs)}, home / GIVEN)
        save_file({"acts": torch.stack(acts), "written": torch.stack(written)}, home / FOUND)


def theirs(folder: Path) -> None:
    """Compare with what circuit-tracer makes of it; runs with the peer's Python."""
    import yaml
    from circuit_tracer.transcoder.cross_layer_transcoder import load_clt
    from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set

    for name in KINDS:
        home = folder / name
        said = yaml.safe_load((home / CONFIG).read_text())
        hooks = {key: said[key] for key in ("feature_input_hook", "feature_output_hook")}
        settings = {**hooks, "scan": said["scan"], "device": torch.device("cpu")}
        if said["model_kind"] == "cross_layer_transcoder":
            found = load_clt(str(home), dtype=torch.float32, **settings)
        else:
            layers = range(len(list(home.glob("layer_*"))))
            paths = {i: str(home / f"layer_{i}.safetensors") for i in layers}
            found = load_transcoder_set(paths, dtype=torch.float32, **settings)
        inputs, expected = load_file(home / GIVEN)["inputs"], load_file(home / FOUND)
        with torch.no_grad():
            acts = found.encode(inputs)
            written = found.decode(acts, inputs)
        fired = float((expected["acts"] != 0).sum() / expected["acts"][..., 0].numel())
        apart = {"acts": acts, "written": written}
        told = ", ".join(
            f"{key} {float((value - expected[key]).abs().max() / expected[key].abs().max()):.1e}"
            for key, value in apart.items()
        )
        print(f"{name:<16} {tuple(acts.shape)}, {fired:.1f} fire at a token; differ by {told}")


def main() -> None:
    """Train here, read there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peer", help="Python with circuit-tracer")
    parser.add_argument("--compare", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.compare:
        theirs(given.compare)
        return
    with tempfile.TemporaryDirectory() as folder:
        ours(Path(folder))
        command = [given.peer or sys.executable, __file__, "--compare", folder]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
