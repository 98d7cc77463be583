"""Many prompts: prompts a minute by engine, kills in the middle, and sets of many graph files.

    python benchmarks/many.py --prompts 200 --files 10000
    python benchmarks/many.py --prompts 200 --ray --kill

Each engine writes to an empty folder, on the embedded model or, with `--folder`, on the SmolLM2 of
`smollm.py`; first comes a plain loop of `attribute`, which is what ratios are of. `here` computes
short prompts together. On a busy machine the processor's time says more than the clock's. The time
that processes and Ray need to start is counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import peak_memory_above, text_of
from smollm import CITIES, prepare

from circuit_nb import AttributionGraph, GraphSet, attribute, attribute_many, load
from circuit_nb import files as writing
from circuit_nb.atlas.world import load_world
from circuit_nb.graphsets import Here, Processes, Ray
from circuit_nb.graphsets.folder import Entry, Folder

TEXT = "Fact: the capital of the state containing {city} is"


def prompts_of(count: int, tokens: int, *, atlas: bool) -> list[str]:
    """So many different prompts of about eleven tokens; of more, with other text before them."""
    lead = " ".join(text_of(tokens).split()[: max(0, tokens - 11)]) if tokens > 11 else ""
    return [f"{lead} {prompt}".strip() for prompt in _questions(count, atlas=atlas)]


def _questions(count: int, *, atlas: bool) -> list[str]:
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
    runs: dict[str, Any] = {"loop": loop}
    runs |= {name: partial(engine, kind, name) for name, kind in kinds(options).items()}
    base = None
    for name, run in runs.items():
        start, used = time.perf_counter(), time.process_time()
        with peak_memory_above() as peak:
            run()
        seconds, used = time.perf_counter() - start, time.process_time() - used
        base = base or (seconds, used)
        print(
            f"{name:10} {60 * len(prompts) / seconds:8.1f} prompts a minute "
            f"{base[0] / seconds:5.2f} x the loop, {peak.value / 2**20:6.0f} MiB more here, "
            f"of the processor here {used / len(prompts):.2f} s a prompt, {base[1] / used:.2f} x",
            flush=True,
        )


def kinds(options: argparse.Namespace) -> dict[str, Any]:
    """The engines by name."""
    found = {"here": Here(), "processes": Processes(options.workers)}
    return found | ({"ray": Ray(actors=options.workers)} if options.ray else {})


def killed(options: argparse.Namespace, count: int, work: Path) -> None:
    """Each engine killed in the middle and started again: are its files those of a whole run?

    On one thread everywhere, as products are summed in another order by another number.
    """

    def begin(engine: str, folder: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, *sys.argv[1:], "--into", str(folder), engine]
        return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def there(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.glob("[0-9a-f]*.safetensors")}

    assert begin("here", work / "whole").wait() == 0
    whole = there(work / "whole")
    for engine in kinds(options):
        folder = work / f"killed-{engine}"
        run = begin(engine, folder)
        while len(list(folder.glob("[0-9a-f]*.safetensors"))) < count // 2 and run.poll() is None:
            time.sleep(0.01)
        run.kill()
        assert run.wait() == -signal.SIGKILL
        time.sleep(2)  # workers that see that they are alone
        before = there(folder)
        assert begin(engine, folder).wait() == 0
        after = there(folder)
        same = sum(after[name] == whole[name] for name in whole)
        apart = max(_apart(work / "whole" / name, folder / name) for name in whole)
        print(
            f"{engine:10} killed with {len(before)} of {count} files, all of them whole and left "
            f"as they were: {before.items() <= after.items()}; started again, {len(after)} files, "
            f"{same} of them bit for bit those of an unbroken run, edges of the others within "
            f"{apart:.1e} of the largest",
            flush=True,
        )


def _apart(one: Path, other: Path) -> float:
    """The largest difference of edges of two files of one graph, of its largest edge."""
    a, b = (AttributionGraph.load(path) for path in (one, other))
    assert a.features.tolist() == b.features.tolist()
    return float(np.abs(a.weights - b.weights).max() / np.abs(a.weights).max())


def made(folder: Path, count: int) -> None:
    """So many graph files of the embedded model's size, each of another prompt.

    Graphs of a hundred prompts, in each file with a city of its own and, at every place, with the
    last feature another: what ten thousand prompts would have in common and what not.
    """
    model = load("atlas", device="cpu")
    asked = [p for p in prompts_of(10**6, atlas=True) if "capital" in p][:100]
    graphs = [attribute(model, p, progress=False) for p in asked]
    # On its way to the disk is enough: what writing takes is not measured here.
    writing._sync = writing.clear_stale = lambda _: None  # pyright: ignore[reportPrivateUsage]
    random = np.random.default_rng(0)
    entries: list[Entry] = []
    for i in range(count):
        graph, name = graphs[i % len(graphs)], f"{i:024x}"
        tokens = (*graph.tokens[:-2], f" City{i}", graph.tokens[-1])
        features = graph.features.copy()
        last = (np.diff(features[:, :2], axis=0, append=-1) != 0).any(1)
        features[last, 2] += random.integers(0, 1000, int(last.sum()))
        prompt = "".join(tokens[1:])
        own = replace(graph, prompt=prompt, tokens=tokens, features=features)
        own.save(folder / f"{name}.safetensors")
        entries.append(Entry(name, prompt, {"number": i}))
    Folder(folder).add(entries)


def files(count: int, work: Path) -> None:
    """Opening a folder of so many graph files, its table, and what they have in common."""
    folder = work / "files"
    folder.mkdir()
    made(folder, count)
    steps = (
        ("open", lambda: GraphSet.open(folder)),
        ("table(), the first time", lambda: GraphSet.open(folder).table()),
        ("table()", lambda: GraphSet.open(folder).table()),
        ("common(0.8)", lambda: GraphSet.open(folder).common(0.8)),
    )
    for name, run in steps:
        start, used = time.perf_counter(), time.process_time()
        with peak_memory_above() as peak:
            run()
        seconds, used = time.perf_counter() - start, time.process_time() - used
        print(
            f"{count} files: {name:25} {seconds:7.2f} s, of the processor {used:7.2f} s, "
            f"{peak.value / 2**20:6.0f} MiB",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="SmolLM2 of smollm.py; else the embedded model")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--rows", type=int, default=250)
    parser.add_argument("--tokens", type=int, default=11, help="of a prompt, about")
    parser.add_argument("--kind", choices=("plt", "clt"), default="plt", help="of SmolLM2's set")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--kill", action="store_true", help="kill each engine in the middle")
    parser.add_argument("--into", nargs=2, metavar=("FOLDER", "ENGINE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        prepare(options.folder)
        model = load(options.folder / "model", options.folder / options.kind, device="cpu")
    else:
        model = load("atlas", device="cpu")
    prompts = prompts_of(options.prompts, options.tokens, atlas=not options.folder)
    if options.into:
        folder, engine = options.into
        kind = kinds(options)[engine]
        attribute_many(model, prompts, folder, engine=kind, max_features=options.rows)
        return
    work = Path(tempfile.mkdtemp())
    try:
        if options.kill:
            killed(options, len(prompts), work)
        elif prompts:
            engines(options, model, prompts, work)
        if options.files:
            files(options.files, work)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
