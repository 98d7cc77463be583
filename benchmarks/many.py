"""Many prompts: prompts a minute by engine, and how long a set of many graph files takes.

    python benchmarks/many.py --prompts 200 --files 10000

Each engine writes to an empty folder, on the embedded model or, with `--folder`, on the SmolLM2 of
`smollm.py`; all alternate with a plain loop of `attribute` in the same run, which is what ratios
are of. The time that processes and Ray need to start is counted.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import peak_memory_above
from smollm import CITIES, prepare

from circuit_nb import GraphSet, attribute, attribute_many, load
from circuit_nb.atlas.world import load_world
from circuit_nb.graphsets import Processes, Ray

TEXT = "Fact: the capital of the state containing {city} is"


def prompts_of(count: int, *, atlas: bool) -> list[str]:
    """So many different prompts of about eleven tokens."""
    if atlas:
        places = load_world().places
        texts = (
            f"Fact: the {relation} of the {place.kind} containing {city} is"
            for place in places
            for relation in place.facts
            for city in place.cities
        )
        return list(dict.fromkeys(texts))[:count]
    words = ("state", "county", "region", "country", "area", "province", "land", "district")
    nouns = ("capital", "name", "flag", "people", "weather", "history", "size", "king", "law")
    return [
        f"Fact: the {noun} of the {word} containing {city} is"
        for noun in nouns
        for word in words
        for city in CITIES
    ][:count]


def engines(options: argparse.Namespace, model: Any, prompts: list[str], work: Path) -> None:
    """Prompts a minute of a loop and of each engine."""

    def loop() -> None:
        for prompt in prompts:
            attribute(model, prompt, max_features=options.rows, progress=False)

    def engine(kind: Any, folder: str) -> None:
        found = attribute_many(
            model, prompts, work / folder, engine=kind, max_features=options.rows, progress=False
        )
        assert len(found) == len(prompts), found.failures

    attribute(model, prompts[0], max_features=options.rows, progress=False)
    kinds: dict[str, Any] = {
        "loop": loop,
        "here": lambda: engine("here", "here"),
        "processes": lambda: engine(Processes(options.workers), "processes"),
    }
    if options.ray:
        kinds["ray"] = lambda: engine(Ray(actors=options.workers), "ray")
    base = None
    for name, run in kinds.items():
        start = time.perf_counter()
        with peak_memory_above() as peak:
            run()
        seconds = time.perf_counter() - start
        base = base or seconds
        print(
            f"{name:10} {60 * len(prompts) / seconds:8.1f} prompts a minute "
            f"{base / seconds:5.2f} x the loop, {peak.value / 2**20:6.0f} MiB more here",
            flush=True,
        )


def files(model: Any, count: int, work: Path) -> None:
    """Opening a folder of so many graph files, its table, and what they have in common."""
    folder = work / "files"
    folder.mkdir()
    made = [attribute(model, p, progress=False) for p in prompts_of(20, atlas=True)]
    for i in range(count):
        # Different files: the time of writing is not what is measured.
        graph = replace(made[i % len(made)], activations=made[i % len(made)].activations + i)
        graph.save(folder / f"{i:024x}.safetensors")
    steps = (
        ("open", lambda: GraphSet.open(folder)),
        ("profiles, the first time", lambda: GraphSet.open(folder).profiles),
        ("rows", lambda: GraphSet.open(folder).rows()),
        ("common(0.8)", lambda: GraphSet.open(folder).common(0.8)),
    )
    for name, run in steps:
        start = time.perf_counter()
        with peak_memory_above() as peak:
            run()
        seconds = time.perf_counter() - start
        print(
            f"{count} files: {name:25} {seconds:7.2f} s, {peak.value / 2**20:6.0f} MiB", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="SmolLM2 of smollm.py; else the embedded model")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--rows", type=int, default=250)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    if options.folder:
        prepare(options.folder)
        model = load(options.folder / "model", options.folder / "plt", device="cpu")
    else:
        model = load("atlas", device="cpu")
    work = Path(tempfile.mkdtemp())
    try:
        if options.prompts:
            engines(options, model, prompts_of(options.prompts, atlas=not options.folder), work)
        if options.files:
            files(load("atlas", device="cpu"), options.files, work)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
