"""The tour of Gemma-2-2B runs on a tiny stand-in, served by a stand-in for the Hub.

The notebook is run as it is. The stand-in has Gemma-2-2B's 26 layers and 16k features a layer in
Gemma Scope's layout, of which the published ones, and no others, are active.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hub_server
import nbformat
import pytest
from nbclient import NotebookClient
from notebook_world import CASES, TOKEN, environment, hub_of_gemma, load_gemma, site_of_gemma
from saved import stale

from circuit_nb import published

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "gemma_tour.ipynb"
ALIKE = 0.6
"""Share of the words that another run must have: the stand-in is random, in bfloat16, which every
kind of processor rounds in its own way."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hub_server.HubState]:
    with hub_of_gemma(tmp_path_factory.mktemp("gemma")) as state:
        yield state


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def model(hub: hub_server.HubState, cache: Path) -> Any:
    return load_gemma(hub, cache)


@pytest.mark.parametrize("name", CASES)
def test_published_features_are_where_they_are_said_to_be(model: Any, name: str) -> None:
    case = published.case(name)
    active = {tuple(row) for row in model.record(case.prompt).features.tolist()}
    for supernode in case.supernodes.values():
        for f in supernode.features:
            assert (f.layer, f.position, f.index) in active


def execute(
    notebook: nbformat.NotebookNode, hub: hub_server.HubState, cache: Path, site_url: str
) -> None:
    env = {**os.environ, **environment(cache, site_url, hub)}
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(env=env)
    assert TOKEN not in json.dumps(notebook)


def test_the_notebook_runs(model: Any, hub: hub_server.HubState, cache: Path) -> None:
    kept = nbformat.read(NOTEBOOK, as_version=4)
    with site_of_gemma(model) as site:
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        execute(notebook, hub, cache, site.url)
        assert "/api/features" in site.paths("POST")
    shown = [o.data for cell in notebook.cells for o in cell.get("outputs", []) if "data" in o]
    picture = next(data["image/svg+xml"] for data in shown if "image/svg+xml" in data)
    assert "Say Austin" in picture and "as Neuronpedia says" in picture
    said = {
        cell.id: "".join(o.get("text", "") for o in cell.outputs if o.output_type == "stream")
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert said["ablate"].count("published:") == 5
    assert "Texas -2x: " in said["ablate"]
    assert "Sacramento 37" in said["swap"] and "Say Austin" in said["swap"]
    assert "大 85" in said["petit-run"]
    shared, _, _, theirs, *_ = said["published"].split()
    assert shared == theirs and int(theirs) > 0, "theirs is the same graph"
    assert stale(kept, notebook, ALIKE) == [], "run tests/browser/save_notebooks.py"


def test_cells_are_short() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 10
            assert "def " not in cell.source
