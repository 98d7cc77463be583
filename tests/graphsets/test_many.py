"""Many prompts: resumed, killed in the middle, in processes and by Ray, always the same files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from circuit_nb import AttributionGraph, GraphSet, attribute, attribute_many
from circuit_nb.graphsets import Processes, template
from circuit_nb.graphsets import engines as engines_module
from circuit_nb.graphsets.asking import Ask
from circuit_nb.graphsets.work import Task, batches

TEXT = "Fact: the capital of the state containing {city} is"
CITIES = ("Dallas", "Oakland", "Houston", "Miami", "Tulsa", "Fresno", "Reno", "Boise")
ROOT = Path(__file__).parents[2]


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[0-9a-f]*.safetensors")}


def _same(a: Path, b: Path) -> bool:
    """Whether two folders hold the same graphs, edges to 1e-6 of the largest: products are summed
    in another order where other prompts are computed together."""
    pairs = [[AttributionGraph.load(folder / name) for folder in (a, b)] for name in _files(a)]
    return _files(a).keys() == _files(b).keys() and all(
        np.array_equal(x.features, y.features)
        and np.array_equal(x.target_ids, y.target_ids)
        and np.abs(x.weights - y.weights).max() < 1e-6 * np.abs(x.weights).max()
        for x, y in pairs
    )


@pytest.fixture(scope="module")
def single(atlas: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    attribute_many(atlas, template(TEXT, {"city": CITIES}), folder, progress=False)
    return folder


def test_graphs_are_those_of_attribute_and_keep_what_is_known(atlas: Any, single: Path) -> None:
    found = GraphSet.open(single)
    assert len(found) == len(CITIES)
    assert [data["city"] for data in found.metadata] == list(CITIES)
    graph = attribute(atlas, TEXT.format(city="Reno"), progress=False)
    together = found.where(city="Reno")[0].weights
    assert np.abs(together - graph.weights).max() < 1e-6 * np.abs(graph.weights).max()
    assert len(found[2:4]) == 2
    assert found.rows()[0]["answer"] == " Austin"
    with pytest.raises(ValueError, match="has 'town'"):
        found.where(town="Reno")
    # Profiles are kept in a file, and are the same from there.
    again = GraphSet.open(single)
    for a, b in zip(found.profiles, again.profiles, strict=True):
        assert (a.prompt, a.tokens, a.answer, a.n_active) == (
            b.prompt,
            b.tokens,
            b.answer,
            b.n_active,
        )
        assert np.array_equal(a.edges, b.edges)
        assert np.array_equal(a.influence, b.influence)


def test_a_failure_is_kept_and_stops_nothing(atlas: Any, tmp_path: Path) -> None:
    asks = ["Fact: the capital of Texas is", "Fact: the capital of Nowhereville is"]
    found = attribute_many(atlas, asks, tmp_path, progress=False)
    assert len(found) == 1
    assert "no token for" in found.failures[asks[1]]
    before = (
        _files(tmp_path),
        {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.safetensors")},
    )
    again = attribute_many(atlas, asks, tmp_path, progress=False)
    assert again.failures
    assert before[0] == _files(tmp_path)  # what is there is not computed again
    name = next(iter(before[0]))
    assert (tmp_path / name).stat().st_mtime_ns == before[1][name]


def test_prompts_that_fail_do_not_stop_those_computed_with_them(
    atlas: Any, single: Path, tmp_path: Path
) -> None:
    asks: list[Any] = template(TEXT, {"city": CITIES})
    bad = {"prompt": TEXT.format(city="Miami"), "targets": ["Nowhereville"]}
    found = attribute_many(atlas, [*asks[:3], bad, "", *asks[3:]], tmp_path, progress=False)
    assert len(found) == len(CITIES)
    assert len(found.failures) == 2
    assert _same(tmp_path, single)


def test_short_prompts_are_cut_into_batches_by_their_tokens(atlas: Any) -> None:
    tasks = [Task(str(i), Ask(tuple(range(1, n)))) for i, n in enumerate((60, 60, 20, 3, 200, 9))]
    cut = [[task.name for task in batch] for batch in batches(atlas, tasks)]
    assert cut == [["0", "1"], ["2", "3"], ["4"], ["5"]]


def test_other_settings_targets_and_models_have_other_files(atlas: Any, tmp_path: Path) -> None:
    prompt = "Fact: the capital of Texas is"
    for extra in ({}, {"max_features": 20}, {"max_logits": 2}):
        attribute_many(atlas, [prompt], tmp_path, progress=False, **extra)
    attribute_many(atlas, [{"prompt": prompt, "targets": " Austin"}], tmp_path, progress=False)
    assert len(_files(tmp_path)) == 4
    with pytest.raises(ValueError, match="max_features is -1"):
        attribute_many(atlas, [prompt], tmp_path, max_features=-1)
    with pytest.raises(ValueError, match="engine is"):
        attribute_many(atlas, [prompt], tmp_path, engine="there")


def test_an_interrupt_keeps_what_is_done(
    atlas: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = engines_module.compute, []

    def interrupted(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(engines_module, "compute", interrupted)
    monkeypatch.setattr("circuit_nb.graphsets.work.TOKENS", 30)  # two prompts of 11 and 12
    with pytest.raises(KeyboardInterrupt, match="after 4 of 8"):
        attribute_many(atlas, template(TEXT, {"city": CITIES}), tmp_path, progress=False)
    assert len(_files(tmp_path)) == 4


def test_processes_give_the_same_files_also_when_one_is_killed(
    atlas: Any, single: Path, tmp_path: Path
) -> None:
    asks = template(TEXT, {"city": CITIES})
    killed: list[int] = []

    class Killing(Processes):
        def run(self, model: Any, job: Any, tasks: Any) -> Any:
            for done in super().run(model, job, tasks):
                if not killed and done.pid:
                    killed.append(done.pid)
                    os.kill(done.pid, signal.SIGKILL)
                yield done

    found = attribute_many(atlas, asks, tmp_path, engine=Killing(workers=1), progress=False)
    assert killed
    assert killed[0] != os.getpid()
    assert len(found) == len(CITIES)
    assert not found.failures
    assert _same(tmp_path, single)


def test_a_killed_run_goes_on_where_it_was(atlas: Any, single: Path, tmp_path: Path) -> None:
    code = f"""
from circuit_nb import attribute_many, load
from circuit_nb.graphsets import template
for _ in attribute_many(load("atlas", device="cpu"), template({TEXT!r}, {{"city": {CITIES!r}}}),
                        {str(tmp_path)!r}, progress=False): pass
"""
    run = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | _path())
    end = time.monotonic() + 300
    while not _files(tmp_path) and run.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.wait()
    there = _files(tmp_path)
    assert there
    found = attribute_many(atlas, template(TEXT, {"city": CITIES}), tmp_path, progress=False)
    assert len(found) == len(CITIES)
    assert there.items() <= _files(tmp_path).items()
    assert _same(tmp_path, single)


def _path() -> dict[str, str]:
    # Products are summed in another order by another number of threads.
    return {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}


RAY = """
import os, signal, sys, ray
from circuit_nb import attribute_many, load
from circuit_nb.graphsets import Ray, template
try:
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
except Exception as error:
    print(str(error)[:80])
    sys.exit(77)
killed = []
class Killing(Ray):
    def run(self, model, job, tasks):
        for done in super().run(model, job, tasks):
            if not killed and done.pid:
                killed.append(done.pid)
                os.kill(done.pid, signal.SIGKILL)
            yield done
asks = template(sys.argv[1], {"city": sys.argv[3].split(",")})
model = load("atlas", device="cpu")
found = attribute_many(model, asks, sys.argv[2], engine=Killing(actors=2), progress=False)
assert killed and killed[0] != os.getpid() and not found.failures, found.failures
"""


def test_ray_gives_the_same_files_also_when_an_actor_is_killed(
    single: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'circuit-nb[ray]'")
    command = [sys.executable, "-c", RAY, TEXT, str(tmp_path), ",".join(CITIES)]
    ran = subprocess.run(
        command, cwd=ROOT, env=os.environ | _path(), capture_output=True, text=True, timeout=300
    )
    if ran.returncode == 77:
        pytest.skip(f"Ray does not start on this machine: {ran.stdout.strip()}")
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert _same(tmp_path, single)


def test_a_folder_of_any_graphs_is_a_set_also_once_profiles_are_in_it(
    single: Path, tmp_path: Path
) -> None:
    for path in single.glob("[0-9a-f]*.safetensors"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    first = GraphSet.open(tmp_path).rows()
    assert len(first) == len(CITIES)
    assert GraphSet.open(tmp_path).rows() == first
