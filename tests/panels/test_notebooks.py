"""The notebooks run from top to bottom, and leave pictures where nothing runs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from notebook_world import NEEDED, surroundings
from saved import OWN, is_live, outputs, shown, source_hash, stale

ROOT = Path(__file__).parents[2]
NAMES = ("dallas_austin", "your_prompt", "published_graph")
ALL = (*NAMES, "is_it_true", "many_prompts", "gemma_tour")
LARGEST = 1_000_000
"""Bytes a notebook may have."""


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], nbformat.NotebookNode]:
    """Runs a notebook from top to bottom, once."""
    folder = tmp_path_factory.mktemp("notebooks")

    @cache
    def run_once(name: str) -> nbformat.NotebookNode:
        notebook = read(name)
        resources = {"metadata": {"path": str(folder)}}
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        client = NotebookClient(notebook, timeout=180, kernel_name="python3", resources=resources)
        with surroundings(name) as variables:
            client.execute(env={**os.environ, "PYTHONPATH": paths, **variables})
        return notebook

    return run_once


@pytest.mark.parametrize("name", NAMES)
def test_the_notebook_runs_and_leaves_a_picture(name: str, run) -> None:
    found = outputs(run(name))
    pictures = [o.data["image/svg+xml"] for o in found if "image/svg+xml" in o.get("data", {})]
    assert len(pictures) == 1
    assert "Austin" in pictures[0] or "Sacramento" in pictures[0]


def test_the_demo_shows_what_its_prose_says(run) -> None:
    found = outputs(run("dallas_austin"))
    printed = {
        line.split(" off:")[0].strip(): float(line.rsplit(" ", 1)[1].rstrip("%"))
        for out in found
        if out.output_type == "stream" and out.name == "stdout"
        for line in out.text.splitlines()
    }
    assert printed["Texas"] < 50
    assert printed["capital"] < 50
    assert printed["state"] > 90, "the control leaves Austin alone"
    texts = [o.data["text/plain"] for o in found if "text/plain" in o.get("data", {})]
    assert texts[-1].startswith("[(' Sacramento'")


def test_what_is_true_is_shown(run) -> None:
    notebook = run("is_it_true")
    cells = {cell.id: cell for cell in notebook.cells}

    def said(name: str) -> str:
        return "".join(o.text for o in cells[name].outputs if o.output_type == "stream")

    for head in ("2.11", "2.15", "2.6", "2.2"):
        assert f"head {head} carries" in said("flow")
    shares = [float(x) for x in re.findall(r"([\d.]+)%", said("knocked"))]
    before, without, control = shares
    assert before > 90 and without < 5 and control > 90
    computed, recorded = map(float, re.findall(r"[\d.]+\d", said("looking")))
    assert computed == pytest.approx(recorded, abs=1e-3)
    kept, random = map(float, re.findall(r"keep ([\d.]+)%", said("kept")))
    assert kept > 60 and random < 10
    assert re.findall(r"without (.*?) +\d+% +not needed", said("needed")) == ["of"]
    assert "2,415 of 2,450" in said("swaps")
    apart = re.findall(r"^(.*?) +graph .*apart", said("predicted"), re.M)
    assert apart == ["Texas"]
    plots = [o for o in outputs(notebook) if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(plots) == 7
    for cell in notebook.cells:
        assert cell.cell_type != "code" or len(cell.source.splitlines()) <= 10


def test_on_colab_the_first_cell_fetches_the_repository_and_runs_its_script(tmp_path: Path) -> None:
    sources = {n: next(c.source for c in read(n).cells if c.cell_type == "code") for n in ALL}
    assert len(set(sources.values())) == 1
    assert not any("%pip" in cell.source for n in ALL for cell in read(n).cells)
    git = tmp_path / "git"
    git.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/asked\n'
        f"mkdir circuit-nb && echo 'touch {tmp_path}/installed' > circuit-nb/colab_setup.sh\n"
    )
    git.chmod(0o755)
    colab = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')"
    cells = [colab, sources["dallas_austin"], sources["dallas_austin"]]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    env = {**os.environ, "PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]])}
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources=resources).execute(
        env=env
    )
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["clone -q --depth 1 https://github.com/circuit-nb/circuit-nb"]
    assert (tmp_path / "installed").exists()


@pytest.mark.parametrize("name", (*NAMES, "is_it_true", "many_prompts"))
def test_the_saved_outputs_are_what_the_notebook_shows(name: str, run) -> None:
    assert stale(read(name), run(name)) == [], "run tests/browser/save_notebooks.py"


@pytest.mark.parametrize("name", ALL)
def test_a_notebook_is_saved_for_viewers_without_a_kernel(name: str) -> None:
    """Every live output has a picture in its place; what stands in for a model is marked."""
    path, notebook = ROOT / "notebooks" / f"{name}.ipynb", read(name)
    found = outputs(notebook)
    assert path.stat().st_size < LARGEST
    assert not any(is_live(out) or out.output_type == "error" for out in found)
    pictures = [o for o in found if "image/png" in o.get("data", {})]
    assert pictures and all(o.metadata[OWN]["words"] for o in pictures)
    assert all(o.metadata["image/png"]["alt"] for o in pictures)
    assert all(c.execution_count for c in notebook.cells if c.cell_type == "code")
    marks = [o.data["text/markdown"] for o in found if "text/markdown" in o.get("data", {})]
    told = NEEDED.get(name)
    assert any(told in mark for mark in marks) if told else not marks


def test_what_is_stale_is_seen(run) -> None:
    """Other code, another version, other words, other numbers; rounding is none of them."""
    name = "dallas_austin"
    kept, again = read(name), run(name)
    kept.metadata[OWN].version = "0.0.0"
    assert "version 0.0.0" in stale(kept)[0]
    kept = read(name)
    for told, other in (
        ("Texas off: Austin 2.0%", "Texas off: Austin 3.0%"),
        ("Sacramento", "Boise"),
    ):
        changed = nbformat.reads(nbformat.writes(again).replace(told, other), as_version=4)
        assert any("of the words" in problem for problem in stale(kept, changed)), told
    next(c for c in kept.cells if c.id == "graph").source += "  # changed"
    assert source_hash(kept) != source_hash(again)
    assert "code was changed" in stale(kept, again)[0]


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_short_and_define_nothing(name: str) -> None:
    cells = read(name).cells
    assert len(cells) <= 11
    for cell in cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 10
            assert "def " not in cell.source
            assert "class " not in cell.source


def test_scripts_that_a_library_loads_are_no_output() -> None:
    scripts = nbformat.v4.new_output("display_data", {"text/html": "<script>1</script>"})
    told = nbformat.v4.new_output("display_data", {"text/html": "<b>1</b>", "text/plain": "1"})
    assert shown(nbformat.v4.new_code_cell(outputs=[scripts, told])) == [told]
