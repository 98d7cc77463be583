"""What a page to share holds: the model's own numbers, the panels' own figures, nothing private."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path

import pytest
from families import DALLAS
from made import HOSTILE, OTHER, SAY, TEXAS, cards, hostile_graph, hostile_labels, small_graph

from circuit_nb import attribute, attribution, explore, intervene, sharing
from circuit_nb.figures.bars import connections
from circuit_nb.graph import TargetNode, TokenNode
from circuit_nb.intervention import Intervention
from circuit_nb.model import ReplacementModel
from circuit_nb.panels import Session
from circuit_nb.panels.keys import node_key
from circuit_nb.panels.opening import opened
from circuit_nb.sharing import Page, public
from circuit_nb.sharing.outcomes import states

FIXTURE = Path(__file__).parents[1] / "data" / "page_version_1.json"


@pytest.fixture(scope="module")
def session(atlas: ReplacementModel) -> Session:
    graph = attribute(atlas, DALLAS, max_features=None, progress=False)
    return opened(graph, atlas, None, None)


@pytest.fixture(scope="module")
def page(session: Session) -> Page:
    return sharing.page(session, progress=False)


def test_every_combination_is_what_the_model_says(
    session: Session, page: Page, atlas: ReplacementModel
) -> None:
    assert page.outcomes is not None
    rows = session.rows
    assert [r["name"] for r in page.outcomes["rows"]] == list(rows) and len(rows) == 4
    austin = atlas.token_id(" Austin")
    for on in itertools.product((True, False), repeat=4):
        off = [
            Intervention.ablate(row)
            for row, is_on in zip(rows.values(), on, strict=True)
            if not is_on
        ]
        watch = [g for g in session.groups if g in rows.values()]
        told = page.outcomes["runs"][" ".join("1" if is_on else "off" for is_on in on)]
        out = intervene(atlas, DALLAS, off, watch=watch, max_new_tokens=8)
        for token, share in told["top"]:
            assert share == pytest.approx(out.after.probability(token), abs=2e-6)
        assert dict(told["top"])[austin] == pytest.approx(out.after.probability(austin), abs=2e-6)
        assert told["text"] == out.after.text
        assert {t for t, _ in out.after.top} <= {
            page.outcomes["tokens"][str(i)] for i, _ in told["top"]
        }
        for group, left, is_on in zip(session.groups, told["left"], on, strict=False):
            if off and is_on:
                assert left == pytest.approx(out.fraction(group), abs=1e-5)


def test_multipliers_and_what_is_set_up_are_computed_too(
    atlas: ReplacementModel, session: Session
) -> None:
    texas = session.rows["Texas"]
    mine = opened(session.graph, atlas, None, None)
    mine.new_tokens = 3
    mine.set_switch("capital", multiplier=2.25)
    other = mine.read_prompt(DALLAS.replace("Dallas", "Oakland"))
    california = next(g for g in other.concepts() if g.name == "California")
    mine.add(california, other.graph, instead_of="Texas")
    page = sharing.page(mine, progress=False)
    assert page.outcomes is not None
    assert page.outcomes["start"] == "2.25 off 1 1 1" and page.outcomes["new_tokens"] == 3
    assert page.outcomes["rows"][4]["added"]
    assert mine.outcome is not None
    swapped = page.outcomes["runs"]["2.25 off 1 1 1"]
    for token, share in swapped["top"]:
        assert share == pytest.approx(mine.outcome.after.probability(token), abs=2e-6)
    out = intervene(atlas, DALLAS, [Intervention.scale(texas, -1.5)])
    for token, share in page.outcomes["runs"]["1 -1.5 1 1 off"]["top"]:
        assert share == pytest.approx(out.after.probability(token), abs=2e-6)
    assert "1.75 1 1 1 off" not in page.outcomes["runs"]


def test_the_number_of_runs_stays_bounded() -> None:
    rows = [dataclasses.replace(TEXAS, index=i) for i in range(10)]
    found = states(rows, (1.0,) * 10)
    assert len(found) == len(set(found)) == 2**8 + 2 + 10 * 20
    assert (None,) * 8 + (1.0, 1.0) in found and (1.0,) * 9 + (-5.0,) in found


def test_without_a_model_no_outcome_is_told() -> None:
    page = sharing.page(Session(small_graph(), cards=cards), progress=False)
    assert page.outcomes is None
    assert "no outcomes" in page.contents


def test_the_pictures_are_those_of_the_panel(session: Session, page: Page) -> None:
    shown = [p for p in page.view["pictures"] if p["kept"] == session.kept and p["errors"]]
    assert [p["width"] for p in shown] == [344, 560, 800, 1100]
    for picture in shown:
        assert picture["summary"] == session.view.summary
        words = [" ".join(w[-1]) for w in picture["words"]]
        assert "Texas" in words and any(w.startswith("Austin 9") for w in words)
        for _, x, y, *_ in picture["nodes"]:
            assert 0 < x < picture["width"] and 0 < y < picture["height"]


def test_what_was_measured_is_carried_along(
    atlas: ReplacementModel, session: Session, tmp_path: Path
) -> None:
    mine = opened(session.graph, atlas, None, None)
    texas, say = mine.rows["Texas"], mine.rows["say Austin"]
    mine.trials.measure()
    mine.trials.sweep(mine.trials.parts[1])
    node = say.features[0]
    mine.select(node)
    source, _ = connections(mine.graph, node, inputs=True)[0]
    mine.attending.carriers(node, [source], inputs=True)
    mine.attending.choose_edge((source, node))
    mine.attending.choose_key(mine.attending.places[1])
    told, knocked = mine.attending.looking, mine.attending.without
    page = sharing.page(mine, progress=False)
    assert sharing.read(page.write(tmp_path / "page.html")) == page
    assert page.evidence is not None and page.attention is not None

    kept, found = mine.trials.found.faithfulness, page.evidence
    assert kept is not None and found["combinations"] is None
    assert found["kept"]["text"] == str(kept)
    assert found["kept"]["faithfulness"] == pytest.approx(kept.faithfulness, rel=1e-5)
    assert found["kept"]["random"][0] == pytest.approx(float(kept.control.mean), rel=1e-5)
    assert [p["without"] for p in found["parts"]] == pytest.approx(kept.without.tolist(), rel=1e-5)
    assert {p["name"]: p["badge"] for p in found["parts"]} == {
        mine.row_name(part): badge for part, badge in mine.trials.badges().items()
    }
    assert [s["box"] for s in found["sweeps"]] == [mine.groups.index(texas)]

    ids = [n["id"] for n in page.graph["nodes"]]
    [(s, t, shares)] = page.attention["edges"]
    assert (ids[s], ids[t]) == (node_key(source), node_key(node))
    heads = attribution.heads(atlas, mine.graph, [source], [node])
    flows, edge = heads.flows[0, 0], float(heads.edges[0, 0])
    layer, head, share = shares[0]
    assert share == pytest.approx(float(flows[layer, head]) / edge, rel=1e-4)
    assert abs(flows[layer, head]) == abs(flows).max()
    [looked] = page.attention["looked"]
    for side in ("asked", "answered"):
        assert sum(v for _, v in looked[side]) == pytest.approx(told.score, abs=1e-3)
    assert looked["pattern"][told.key] == max(looked["pattern"])
    assert page.attention["without"][0]["shares"] == list(knocked[1:])
    assert "measured of 4 boxes; the attention heads of 1 edges" in page.contents


def test_what_nobody_measured_is_not_there(page: Page) -> None:
    assert page.evidence is None and page.attention is None


def test_a_page_is_read_again(page: Page, tmp_path: Path) -> None:
    path = page.write(tmp_path / "dallas.html")
    again = sharing.read(path)
    assert again == page
    assert path.stat().st_size < 3_000_000
    assert sharing.read(again.write(tmp_path / "again.html")) == page


def test_an_old_page_is_still_read(tmp_path: Path) -> None:
    page = sharing.read(FIXTURE)
    assert page.graph["prompt"] == "The capital of Dallas is"
    assert page.outcomes is not None and page.outcomes["runs"]["off"]["top"][0] == [41, 0.5]
    assert page.evidence is None and page.attention is None
    assert sharing.read(page.write(tmp_path / "page.html")) == page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 3}, "reads up to 2. Upgrade circuit-nb"),
        ({"format": "a graph"}, "not of the format"),
        ({"graph": {"prompt": "x", "nodes": [], "edges": [[0, 1, 1.0]]}}, "does not hold"),
        ({"view": {"pictures": []}}, "no picture"),
        ({"about": {}}, "contents"),
        ({"evidence": {"parts": [{"box": 9}], "sweeps": []}}, "9 for 'box'"),
        ({"attention": {"edges": [[0, 99, []]]}}, "does not hold"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    data = {**json.loads(FIXTURE.read_text(encoding="utf-8")), **change}
    path = tmp_path / "page.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(said)):
        sharing.read(path)


def test_hostile_texts_stay_inside_their_element(tmp_path: Path) -> None:
    labels = hostile_labels()
    session = Session(hostile_graph(), labels=labels)
    session.kept = 1.0
    session.group(HOSTILE[0], [TEXAS, OTHER])
    session.pin(SAY, TokenNode(2), TargetNode(0))
    written = sharing.page(session, progress=False).html()
    data = written.split('id="page-data">')[1].split("</script>")[0]
    assert "<" not in data and json.loads(data)["graph"]["prompt"] == HOSTILE[0]
    assert written.count("</script>") == 2
    assert not any(h in written for h in HOSTILE[:4])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', written)
    assert policy is not None and policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1] and "connect-src" not in policy[1]


def test_no_path_of_this_machine_is_shared(tmp_path: Path) -> None:
    folder = tmp_path / "somebody" / "my-model"
    folder.mkdir(parents=True)
    provenance = {
        "model": str(folder),
        "transcoders": r"C:\Users\somebody\sets\my-set",
        "host": "somebodys-laptop",
        "token": "hf_secret",
        "model_revision": "abc",
        "pruned": {"file": "/home/somebody/x.json", "node_mass": 0.8},
    }
    session = Session(dataclasses.replace(small_graph(), provenance=provenance))
    page = sharing.page(session, progress=False)
    assert "somebody" not in page.html() and "hf_secret" not in page.html()
    assert page.about["settings"] == {
        "model": "my-model",
        "model_revision": "abc",
        "transcoders": "my-set",
        "pruned": {"file": "x.json", "node_mass": 0.8},
    }
    assert public.public("google/gemma-2-2b") == "google/gemma-2-2b"


def test_the_explorer_says_what_is_shared_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    explorer = explore(small_graph(), cards=cards)
    path = explorer.export(tmp_path / "page")
    said = capsys.readouterr().out
    assert path == tmp_path / "page.html" and "The capital of Dallas is" in said
    assert said.strip() == sharing.read(path).contents
    with pytest.raises(OSError, match="there is no folder"):
        explorer.export(tmp_path / "no" / "page.html")
    assert capsys.readouterr().out == ""
    explorer.close()


def test_a_large_graph_is_cut_to_what_a_page_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("circuit_nb.sharing.gathering.MOST_NODES", 20)
    monkeypatch.setattr("circuit_nb.sharing.gathering.MOST_EDGES", 6)
    session = Session(small_graph())
    page = sharing.page(session, progress=False)
    assert page.graph["held"] == [20, 31, len(page.graph["edges"]), 15]
    assert len(page.graph["edges"]) == 6
    ids = {node["id"] for node in page.graph["nodes"]}
    assert {"target-0", "token-5", "feature-2-5-11"} <= ids
    drawn = {n[0] for p in page.view["pictures"] for n in p["nodes"]}
    assert drawn <= set(range(20))
