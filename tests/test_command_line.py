"""The commands, run as a user would run them."""

import json
from pathlib import Path

import pytest
from families import DALLAS, GOLDEN

from circuit_nb import AttributionGraph, attribute, demo, neuronpedia, sharing
from circuit_nb.__main__ import main
from circuit_nb.model import ReplacementModel


def test_the_demonstration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--output", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr().out
    rows = {line[:28].strip(): line[28:] for line in printed.splitlines()}
    assert "Austin 9" in rows["nothing"]
    assert "100%" in rows["nothing"] and "100%" in rows["control: California off"]
    assert "Austin" not in rows["Texas off"] and " 0%" in rows["Texas off"]
    assert "Sacramento 9" in rows["Texas → California"]
    path = [line.split("→")[-1].strip() for line in printed.splitlines()[3:7]]
    assert [step.split(" ·")[0] for step in path] == [
        "token Dallas (9)",
        "Texas",
        "say Austin",
        "output Austin",
    ]
    graph = AttributionGraph.load(tmp_path / "new" / "dallas_austin.safetensors")
    assert graph.prompt == DALLAS and len(graph.features) == graph.n_active
    page = (tmp_path / "new" / "dallas_austin.html").read_text(encoding="utf-8")
    assert "say Austin" in page and 'src="http' not in page
    shared = sharing.read(tmp_path / "new" / "dallas_austin.html")
    assert shared.outcomes is not None and len(shared.outcomes["rows"]) == 4
    assert shared.contents in printed


def test_an_unrelated_concept_changes_nothing(atlas: ReplacementModel) -> None:
    graph = attribute(atlas, DALLAS, max_features=None, progress=False)
    outcomes = demo.experiments(atlas, graph)
    control, nothing = outcomes["control: California off"], outcomes["nothing"]
    assert abs(control.after.logits - nothing.before.logits).max() < 1e-5
    assert outcomes["Texas off"].after.probability(" Austin") < 0.05


@pytest.mark.parametrize("suffix", [".safetensors", ".json", ".html"])
def test_attribute_writes_graph_json_or_page(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, output = GOLDEN / "qwen3-plt", tmp_path / f"graph{suffix}"
    prompt = "the capital of the state containing Dallas is"
    arguments = ["--model", case / "model", "--transcoders", case / "transcoders"]
    arguments += ["--prompt", prompt, "-o", output, "--max-features", 12]
    assert main(["attribute", *map(str, arguments)]) == 0
    if suffix == ".safetensors":
        assert len(AttributionGraph.load(output).features) == 12
    elif suffix == ".json":
        assert json.loads(output.read_text())["metadata"]["prompt"].endswith(prompt)
        assert len(neuronpedia.read(output).graph.features) == 12
    else:
        page = sharing.read(output)
        assert page.graph["prompt"].endswith(prompt) and page.outcomes is not None
        assert page.contents in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", "x", "-o", "graph.png"], "graph.png ends in none of"),
        (["--prompt", "", "-o", "g.html"], "empty"),
        (["--prompt", "Dallas is", "--target", "Qwertz", "-o", "g.html"], "Qwertz"),
        (["--prompt", "Dallas is", "--max-features", "-1", "-o", "g.html"], "max_features is -1"),
        (["--prompt", "Dallas is", "--model", "./nowhere", "-o", "g.html"], "nowhere"),
        (["--prompt", "Dallas is", "--device", "bogus", "-o", "g.html"], "'bogus' is no device"),
        (["--prompt", "Dallas is", "--device", "cuda:99", "-o", "g.html"], "no device cuda:99"),
        (["--prompt", "Dallas is", "--device", "meta", "-o", "g.html"], "no device meta"),
        (["--prompt", "Dallas is", "--node-mass", "7", "-o", "g.html"], "--node-mass is 7"),
        # Before the model is looked for, or anything computed.
        (["--prompt", "x", "--model", "./nowhere", "-o", "no/g.html"], "there is no folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["attribute", *arguments]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("circuit-nb: ") and said in last
    assert list(tmp_path.iterdir()) == []


def test_the_demonstration_says_at_once_where_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["demo", "--output", str(tmp_path / "file")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "there is a file of that name" in said.err


def test_a_lack_of_memory_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("circuit_nb.attribution.attribute", exhausted)
    assert main(["attribute", "--prompt", "Dallas is", "-o", str(tmp_path / "g.html")]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("circuit-nb: out of memory")


def test_what_was_computed_is_kept_where_it_cannot_be_written_as_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """No JSON is written that nobody could read."""
    monkeypatch.setattr("circuit_nb.neuronpedia.writing.MAX_BYTES", 1000)
    assert main(["attribute", "--prompt", DALLAS, "-o", str(tmp_path / "g.json")]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Prune it first" in last and "g.json.safetensors" in last
    assert AttributionGraph.load(tmp_path / "g.json.safetensors").prompt == DALLAS
    assert [path.name for path in tmp_path.iterdir()] == ["g.json.safetensors"]
