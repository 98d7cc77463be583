"""Point 7: nothing is lost on disk."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from graphs import graph
from registry import case, python, said

FULL = """
import resource, sys
sys.path[:0] = ["", sys.argv[1]]
import disk
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
try:
    disk.SAVED[sys.argv[2]](disk.Path(sys.argv[3]))
except BaseException as error:
    print(disk.said(error))
"""


def _graph(folder: Path) -> None:
    graph().save(folder / "g.safetensors")


def _session(folder: Path) -> None:
    from circuit_nb.panels import Session, store

    store.save(Session(graph(), cards={}), folder / "s.safetensors")


def _json(folder: Path) -> None:
    from circuit_nb import neuronpedia

    neuronpedia.write(graph(), folder / "g.json")


def _page(folder: Path) -> None:
    from circuit_nb import figures

    figures.write_html(figures.graph_figure(graph()), folder / "g.html")


def _cards(folder: Path, label: str = "a") -> None:
    from circuit_nb.cards import CardSet, FeatureCard

    CardSet({(0, i): FeatureCard(label * 30) for i in range(40)}).save(folder)


SAVED: dict[str, Callable[[Path], None]] = {
    "graph": _graph, "session": _session, "JSON": _json, "page": _page, "cards": _cards,
}  # fmt: skip


def full(what: str) -> str:
    """Save, then again where no file may be larger than 200 bytes."""
    folder = Path(tempfile.mkdtemp())
    SAVED[what](folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = python("-c", FULL, str(Path(__file__).parent), what, str(folder))
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    lost = [name for name in before if after.get(name) != before[name]]
    left = sorted(set(after) - set(before))
    text = (done.stdout.strip().splitlines() or ["nothing is said"])[-1]
    text = text.replace(str(folder), "…")[:110]
    state = f"lost: {', '.join(lost)}" if lost else "the old file is whole"
    return f"{state}, {f'beside it {left}' if left else 'nothing beside it'}; {text}"


for name in SAVED:
    case(7, f"saves a {name} where the disk is full".replace("a cards", "cards"))(
        partial(full, name)
    )


@case(7, "saves a graph into a folder that is missing")
def missing_folder() -> None:
    graph().save(Path("/nowhere/g.safetensors"))


@case(7, "the mode of a graph's file, umask 022")
def umask() -> str:
    os.umask(0o022)
    path = graph().save(Path(tempfile.mkdtemp()) / "g.safetensors")
    return f"{stat.S_IMODE(path.stat().st_mode):03o}"


@case(7, "opens cards whose two files are of two saves")
def two_saves() -> str:
    from circuit_nb import cards

    first, second = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    _cards(first, "a")
    _cards(second, "b")
    shutil.copy(first / "cards.json", second / "cards.json")
    return f"accepted, with label {cards.load(second)[0, 0].label[:3]!r}"


def command(*arguments: str) -> str:
    """What `circuit-nb attribute` says at last."""
    done = python("-m", "circuit_nb", "attribute", "--prompt", "Dallas is", *arguments)
    trace = "a traceback, " if "Traceback" in done.stderr else ""
    return f"{trace}status {done.returncode}: {done.stderr.strip().splitlines()[-1]}"


OPTIONS = (("--device", "bogus", "-o", "x.html"), ("-o", "/nowhere/x.safetensors"))
for options in OPTIONS:
    case(7, f"circuit-nb attribute {' '.join(options)}")(partial(command, *options))


@case(7, "circuit-nb attribute runs out of memory")
def exhausted() -> str:
    import circuit_nb
    from circuit_nb import attribution
    from circuit_nb.__main__ import main

    def attribute(*_: object, **__: object) -> None:
        raise MemoryError

    circuit_nb.attribute = attribution.attribute = attribute
    try:
        status = main(["attribute", "--prompt", "Dallas is", "-o", "/tmp/x.html"])
    except MemoryError as error:
        return f"a traceback, {said(error)}"
    return f"status {status}, in words"
