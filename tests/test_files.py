"""Files on disk: whole or not there, readable by whom the user lets, and nothing left beside."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import small_graph

from circuit_nb import cards, figures, neuronpedia
from circuit_nb.cards import CardSet, FeatureCard
from circuit_nb.files import (
    check_writable,
    replacing,
    replacing_folder,
    write_bytes,
    write_tensors,
    write_text,
)
from circuit_nb.graph import AttributionGraph
from circuit_nb.panels import Session, store

ROOT = Path(__file__).parents[1]


def _save_graph(path: Path) -> Path:
    return small_graph().save(path / "graph.safetensors")


def _save_session(path: Path) -> Path:
    return store.save(Session(small_graph(), cards={}), path / "session")


def _save_json(path: Path) -> Path:
    return neuronpedia.write(small_graph(), path / "graph.json")


def _save_page(path: Path) -> Path:
    return figures.write_html(figures.graph_figure(small_graph()), path / "graph.html")


def _save_cards(path: Path) -> Path:
    return CardSet({(0, 1): FeatureCard("x")}).save(path) / "cards.safetensors"


WRITERS = [_save_graph, _save_session, _save_json, _save_page, _save_cards]


@pytest.mark.parametrize("save", WRITERS)
@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_the_users_umask_is_respected(save, tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o027, 0o640), (0o077, 0o600)):
        old = os.umask(mask)
        try:
            path = save(tmp_path / f"{mask}") if save is _save_cards else save(tmp_path)
        finally:
            os.umask(old)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        path.unlink()


@pytest.mark.parametrize("save", WRITERS)
def test_nothing_is_left_beside(save, tmp_path: Path) -> None:
    path = save(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert save(tmp_path) == path
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert len(before) == (2 if save is _save_cards else 1)


@pytest.mark.parametrize("save", WRITERS[:-1])
def test_a_missing_folder_is_said(save, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; make it first"):
        save(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_cards_cannot_be_put_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "cards").write_text("mine")
    with pytest.raises(FileExistsError, match="there is a file of that name"):
        _save_cards(tmp_path / "cards")
    assert (tmp_path / "cards").read_text() == "mine"


_SHORT_OF_DISK = """
import resource, sys
from pathlib import Path
sys.path.insert(0, "tests")
import test_files
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for save in (*test_files.WRITERS[:-1], test_files.save_many_cards):
    try:
        print("written", save(Path(sys.argv[1])))
    except OSError as error:
        print(error.errno, error)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on a process's files")
def test_the_old_files_stay_where_there_is_no_room(tmp_path: Path) -> None:
    for save in (*WRITERS[:-1], save_many_cards):
        save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    command = [sys.executable, "-c", _SHORT_OF_DISK, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout.splitlines()
    assert len(said) == len(WRITERS), done.stderr
    for line in said:
        assert line.startswith(f"{errno.EFBIG} ")
        assert line.endswith("cannot be written: file too large (EFBIG).")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def save_many_cards(path: Path) -> Path:
    return CardSet({(0, i): FeatureCard("b" * 300) for i in range(50)}).save(path)


def test_an_interrupt_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_and_a_mode_kept(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = write_text(tmp_path / "real" / "a.txt", "old")
    target.chmod(0o604)
    (tmp_path / "link.txt").symlink_to(target)
    assert write_text(tmp_path / "link.txt", "new") == tmp_path / "link.txt"
    assert (tmp_path / "link.txt").is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o604


def test_names_as_long_as_there_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".txt")
    assert write_text(path, "x").read_text() == "x"
    with pytest.raises(OSError, match="cannot be written") as caught:
        write_text(tmp_path / ("é" * 200), "x")
    assert len(str(caught.value)) < 300


def test_what_is_no_ordinary_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="there is a folder of that name"):
        write_text(tmp_path / "folder", "x")
    with pytest.raises(OSError, match="no ordinary file"):
        write_text("/dev/null", "x")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_what_may_not_be_written_is_said(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "old")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="this user may not write there"):
        write_text(path, "new")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match="this user may not write there"):
            check_writable(tmp_path / "b.txt")
    finally:
        tmp_path.chmod(0o755)


def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    check_writable(tmp_path / "a.txt", 1000)
    with pytest.raises(OSError, match="is full; make room") as caught:
        check_writable(tmp_path / "a.txt", 10**18)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError, match="no folder"):
        check_writable(tmp_path / "nowhere" / "a.txt")
    with pytest.raises(IsADirectoryError, match="there is a folder"):
        check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_cleared_later(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "old")
    stale, fresh = tmp_path / ".a.txt.0123456789ab.part", tmp_path / ".a.txt.ba9876543210.part"
    other = tmp_path / ".b.txt.0123456789ab.part"
    for left in (stale, fresh, other):
        left.write_text("half")
    hours_ago = time.time() - 7200
    os.utime(stale, (hours_ago, hours_ago))
    write_text(path, "new")
    assert sorted(tmp_path.iterdir()) == sorted([path, fresh, other])


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    with replacing_folder(folder) as beside:
        (beside / "old.txt").write_text("old")
    with pytest.raises(ValueError, match="stop"), replacing_folder(folder) as beside:
        (beside / "new.txt").write_text("half")
        raise ValueError("stop")
    assert [path.name for path in folder.iterdir()] == ["old.txt"]
    with replacing_folder(folder) as beside:
        write_tensors(beside / "new.safetensors", {"x": np.zeros(3)}, {})
    assert [path.name for path in folder.iterdir()] == ["new.safetensors"]
    assert list(folder.parent.iterdir()) == [folder]
    write_text(tmp_path / "file", "mine")
    with (
        pytest.raises(NotADirectoryError, match="is no folder"),
        replacing_folder(tmp_path / "file"),
    ):
        pass
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_what_other_libraries_write_in_a_folder_has_the_users_mode(tmp_path: Path) -> None:
    from circuit_nb.atlas import transcoder_folder
    from circuit_nb.atlas.making import probe

    shipped = probe.load_transcoders(transcoder_folder())
    probe.save_transcoders(shipped, tmp_path / "set")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "set").iterdir()}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {0o666 & ~mask}


def test_cards_of_two_saves_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        CardSet({(0, i): FeatureCard(f"{name} {i}", density=0.5) for i in range(3)}).save(
            tmp_path / name
        )
    shutil.copy(tmp_path / "a" / "cards.json", tmp_path / "b" / "cards.json")
    with pytest.raises(ValueError, match="come from two saves"):
        cards.load(tmp_path / "b")


def test_cards_saved_before_there_were_marks_are_read(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    made = CardSet({(0, 1): FeatureCard("x")})
    made.save(tmp_path)
    save_file(load_file(tmp_path / "cards.safetensors"), tmp_path / "cards.safetensors")
    texts = json.loads((tmp_path / "cards.json").read_text())
    del texts["save"]
    (tmp_path / "cards.json").write_text(json.dumps(texts))
    assert dict(cards.load(tmp_path)) == dict(made)


def test_cards_whose_save_was_stopped_between_its_files_are_read(tmp_path: Path) -> None:
    old = CardSet({(0, 1): FeatureCard("old")})
    old.save(tmp_path)
    texts = (tmp_path / "cards.json").read_bytes()
    new = CardSet({(0, 1): FeatureCard("new"), (2, 3): FeatureCard("other")})
    new.save(tmp_path)
    # As it is when the machine stops after the numbers have their place and before the texts do.
    name = json.loads((tmp_path / "cards.json").read_text())["save"]
    (tmp_path / "cards.json").rename(tmp_path / f".cards.json.{name}.part")
    write_bytes(tmp_path / "cards.json", texts)
    assert dict(cards.load(tmp_path)) == dict(new)
    old.save(tmp_path)
    assert dict(cards.load(tmp_path)) == dict(old)


_SAVING = """
import sys
sys.path.insert(0, "tests")
import test_files
from pathlib import Path
print("ready", flush=True)
test_files.save_for_ever(Path(sys.argv[1]))
"""


def save_for_ever(folder: Path) -> None:
    """Save now one graph and set of cards, now the other, until killed."""
    for number in range(10**9):
        graph, made = versions(number % 2)
        graph.save(folder / "graph.safetensors")
        made.save(folder / "cards")


def versions(number: int) -> tuple[AttributionGraph, CardSet]:
    graph = replace(small_graph(), prompt=f"version {number}", n_active=5 + number)
    labels = {(0, i): FeatureCard(f"{number}", density=float(number)) for i in range(200)}
    return graph, CardSet(labels)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_whoever_is_killed_while_saving_leaves_whole_files(tmp_path: Path) -> None:
    draw = random.Random(0)
    for number in (0, 1):
        graph, made = versions(number)
        graph.save(tmp_path / "graph.safetensors")
        made.save(tmp_path / "cards")
    for _ in range(4):
        command = [sys.executable, "-c", _SAVING, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(draw.uniform(0.001, 0.1))
            process.send_signal(signal.SIGKILL)
        graph = AttributionGraph.load(tmp_path / "graph.safetensors")
        assert graph.prompt == f"version {graph.n_active - 5}"
        found = {(card.label, card.density) for card in cards.load(tmp_path / "cards").values()}
        assert found in ({("0", 0.0)}, {("1", 1.0)})
