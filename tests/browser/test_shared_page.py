"""A page to share, opened from a file with the network cut off: its switches say what the model
says, on a phone and a laptop, in light and dark, by mouse and by keyboard."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from families import DALLAS
from made import HOSTILE, OTHER, SAY, TEXAS, card, hostile_graph, hostile_labels
from playwright.sync_api import Page
from real import FOLDER
from serving import browser_page
from test_hostile import harmless

from circuit_nb import attribute, explore, intervene, sharing
from circuit_nb.figures.bars import connections
from circuit_nb.figures.edges import selected_edges
from circuit_nb.figures.style import percent
from circuit_nb.figures.svg_shapes import Area, path_data
from circuit_nb.figures.view import graph_layout
from circuit_nb.graph import TargetNode, TokenNode
from circuit_nb.intervention import Intervention
from circuit_nb.model import ReplacementModel
from circuit_nb.panels import Session
from circuit_nb.panels.opening import opened
from circuit_nb.sharing import pictures

FIXTURE = Path(__file__).parents[1] / "data" / "page_version_1.json"


@pytest.fixture(scope="module")
def session(atlas: ReplacementModel) -> Session:
    return opened(attribute(atlas, DALLAS, max_features=None, progress=False), atlas, None, None)


@pytest.fixture(scope="module")
def file(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    return sharing.page(session, progress=False).write(folder / "dallas.html")


@pytest.fixture(scope="module")
def window() -> Iterator[Page]:
    """One window for all tests, with the network cut off; nothing was asked of it."""
    with browser_page(1366, 768) as page:
        page.context.set_offline(True)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        yield page
        assert page.problems == []  # type: ignore[attr-defined]
        assert all(url.startswith(("file:", "data:", "blob:", "about:")) for url in asked)


@pytest.fixture
def shown(window: Page, file: Path) -> Page:
    """The page as it opens, in a laptop's window."""
    window.set_viewport_size({"width": 1366, "height": 768})
    window.emulate_media(color_scheme="light")
    window.goto("about:blank")
    window.goto(file.as_uri())
    window.locator("#graph .node").first.wait_for()
    return window


def says(page: Page) -> list[str]:
    """What the page says comes next, before and after, with all digits."""
    found: list[str] = page.locator("#says .cnb-share").evaluate_all("(e) => e.map((s) => s.title)")
    return found


def flip(page: Page, name: str) -> None:
    page.locator(f'.cnb-switch[aria-label^="{name}:"]').click()


def test_texas_off_is_what_the_model_says(
    shown: Page, session: Session, atlas: ReplacementModel
) -> None:
    out = intervene(atlas, DALLAS, [Intervention.ablate(session.rows["Texas"])], max_new_tokens=8)
    flip(shown, "Texas")
    bars = shown.locator('[data-token=" Austin"] .cnb-bars span')
    shares = [out.before.probability(" Austin"), out.after.probability(" Austin")]
    assert bars.all_text_contents() == [percent(share) for share in shares]
    told = [float(t or "nan") for t in bars.evaluate_all("(e) => e.map((s) => s.title)")]
    assert told == pytest.approx(shares, abs=1e-6)
    assert shown.locator("#texts b").all_text_contents() == [out.before.text, out.after.text]
    assert tuple(shown.locator("#says b").all_text_contents()) == (
        "Austin",
        out.after.top[0][0][1:],
    )
    shown.get_by_role("button", name="Undo").click()
    assert len(says(shown)) == 1


def test_all_sixteen_combinations(shown: Page, session: Session, atlas: ReplacementModel) -> None:
    rows = session.rows
    now = [True] * 4
    for on in itertools.product((True, False), repeat=4):
        for i, name in enumerate(rows):
            if now[i] != on[i]:
                flip(shown, name)
        now = list(on)
        off = [g for g, is_on in zip(rows.values(), on, strict=True) if not is_on]
        out = intervene(atlas, DALLAS, [Intervention.ablate(group) for group in off])
        shares = [out.before.top[0][1], *([out.after.top[0][1]] if off else [])]
        assert [float(s) for s in says(shown)] == pytest.approx(shares, abs=2e-6), on


def test_what_was_not_computed_is_said_and_never_guessed(shown: Page) -> None:
    shown.get_by_label("Texas: multiplier").select_option("2")
    assert len(says(shown)) == 2
    flip(shown, "capital")
    assert "Not computed" in shown.locator("#answer").inner_text()
    assert len(says(shown)) == 1
    box = shown.locator(".cnb-box-output").inner_text()
    assert "not computed" in box
    shown.get_by_role("button", name="Reset").click()
    assert "Not computed" not in shown.locator("#answer").inner_text()


def test_edges_and_paths_are_those_of_the_panels(shown: Page, session: Session) -> None:
    shown.evaluate("() => { location.hash = 'select=feature-2-10-133&tab=paths'; }")
    shown.wait_for_selector("#panel [data-path]")
    listed = session.find_paths()
    assert shown.locator("#panel .cnb-number").all_text_contents() == [
        percent(path.share) for path in listed
    ]
    chains = shown.locator("#panel .cnb-chain").all_text_contents()
    assert chains[0] == " → ".join(session.name(n) for n in listed[0].nodes)
    width = shown.evaluate(
        "() => Number(document.querySelector('#graph svg').viewBox.baseVal.width)"
    )
    room = next(r for r in pictures.ROOMS if r.width == width)
    view = pictures.scene(session, session.kept, session.errors, room).view
    node = session.rows["say Austin"].features[0]
    area = Area(graph_layout(view), int(width))
    drawn = shown.locator("#graph path.edge").evaluate_all(
        "(e) => e.map((p) => [p.getAttribute('stroke'), p.getAttribute('d').split('M').length - 1])"
    )
    wanted = [
        [shape["line"]["color"], path_data(shape, area).count("M")]
        for shape in selected_edges(view, node)
    ]

    def by_colour(pairs: list[list[Any]]) -> dict[str, int]:
        return {c: sum(n for colour, n in pairs if colour == c) for c, _ in pairs}

    assert by_colour(drawn) == by_colour(wanted)


@pytest.mark.parametrize(("width", "scheme"), [*itertools.product((360, 1366), ("light", "dark"))])
def test_on_a_phone_and_a_laptop_in_light_and_dark(shown: Page, width: int, scheme: Any) -> None:
    shown.emulate_media(color_scheme=scheme)
    shown.set_viewport_size({"width": width, "height": 768})
    shown.wait_for_timeout(300)
    inside = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    scrolled, wide = shown.evaluate(inside)
    assert scrolled == wide == width
    drawn = shown.locator("#graph svg").bounding_box()
    assert drawn is not None and drawn["x"] >= 0 and drawn["x"] + drawn["width"] <= width
    ink, paper = shown.evaluate(
        "() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; }"
    )
    assert ("255, 255, 255" in ink) == (scheme == "dark") and ink != paper
    flip(shown, "Texas")
    assert len(says(shown)) == 2
    if width == 1366:  # boxes, switches and both answers are seen at once
        for place in ("#circuit", "#answer", "#texts"):
            box = shown.locator(place).bounding_box()
            assert box is not None and box["y"] + box["height"] <= 768


def test_a_phone_shows_the_whole_circuit_of_a_published_graph(window: Page, tmp_path: Path) -> None:
    """A circuit of eleven boxes is a little smaller there, and none of it lies outside."""
    path = FOLDER / "small-big-plt.json"
    if not path.is_file():
        pytest.skip(f"needs the published graphs in {FOLDER}, which are not part of the project")
    window.set_viewport_size({"width": 360, "height": 740})
    window.goto(explore(path).export(tmp_path / "page.html").as_uri())
    window.locator("#graph .node").first.wait_for()
    boxes = window.locator(".cnb-circuit .cnb-box")
    rights = boxes.evaluate_all("(e) => e.map((b) => b.getBoundingClientRect().right)")
    assert len(rights) > 8 and max(rights) <= 360
    window.set_viewport_size({"width": 1366, "height": 768})


def test_by_keyboard_alone(shown: Page) -> None:
    shown.keyboard.press("Tab")
    chip = shown.locator("#prompt .cnb-chip").nth(9)
    chip.focus()
    shown.keyboard.press("Enter")
    assert shown.locator("#panel h3").inner_text() == "token Dallas (9)"
    shown.locator("#graph").focus()
    shown.keyboard.press("ArrowUp")
    first = shown.locator("#said").text_content()
    shown.keyboard.press("ArrowRight")
    second = shown.locator("#said").text_content()
    assert "Dallas (9)" in (first or "") and first != second
    frame = "() => document.querySelector('#graph svg').getAttribute('viewBox')"
    whole = shown.evaluate(frame)
    shown.keyboard.press("+")
    assert shown.evaluate(frame) != whole
    shown.keyboard.press("0")
    assert shown.evaluate(frame) == whole
    shown.locator("#find").focus()
    shown.keyboard.type("say austin")
    shown.keyboard.press("Enter")
    assert "say Austin" in (shown.locator("#said").text_content() or "")
    shown.get_by_role("tab", name="Connections").focus()
    shown.keyboard.press("ArrowRight")
    shown.keyboard.press("ArrowRight")
    shown.keyboard.press("Enter")
    assert "promotes and suppresses" in shown.locator("#panel").inner_text()
    shown.get_by_role("switch", name="Texas:").focus()
    shown.keyboard.press("Enter")
    assert len(says(shown)) == 2
    assert shown.evaluate("() => document.activeElement.dataset.key") == "switch1"


def test_a_fragment_opens_a_state(shown: Page, file: Path) -> None:
    shown.goto("about:blank")
    shown.goto(f"{file.as_uri()}#select=token-9&switches=1,off,1,1&tab=connections")
    assert shown.locator("#panel h3").inner_text() == "token Dallas (9)"
    assert len(says(shown)) == 2
    flip(shown, "Texas")
    shown.get_by_role("tab", name="About").click()
    assert shown.url.endswith("#select=token-9&tab=about")
    assert "Ameisen et al. 2025" in shown.locator("#panel textarea").first.input_value()
    assert "dallas.html#select" in shown.locator("#panel textarea").nth(1).input_value()
    shown.goto(f"{file.as_uri()}#select=nobody&switches=1,x&kept=7")
    assert len(says(shown)) == 1


def saved(page: Page, name: str, kind: str) -> bytes:
    """A panel as a file, as the page gives it."""
    page.locator("#panel select").select_option(name)
    with page.expect_download() as download:
        page.get_by_role("button", name=f"save {kind}").click()
    assert download.value.suggested_filename == f"{name}.{kind.lower()}"
    return Path(download.value.path()).read_bytes()


def test_every_panel_is_saved_as_svg_and_png(shown: Page) -> None:
    shown.evaluate("() => { location.hash = 'select=feature-2-10-133&tab=about'; }")
    flip(shown, "Texas")
    told = {
        "graph": {"Austin", "Dallas", "tokens"},
        "circuit": {"Texas", "off", "33"},
        "answer": {"Albany", "Austin", "after"},
        "connections": {"inputs:", "outputs:"},
        "paths": {"Dallas", "→"},
        "feature": {"promotes", "suppresses"},
        "attention": {"Not", "computed"},
        "evidence": {"Not", "computed"},
    }
    for name, words in told.items():
        drawn = ElementTree.fromstring(saved(shown, name, "SVG"))
        said = {word for e in drawn.iter() if e.text for word in e.text.split()}
        assert words <= said and "Reset" not in said, name
        numbers = {float(e.get(k, "0")) for e in drawn.findall(".//{*}text") for k in ("x", "y")}
        assert all(-50 < n < 3000 for n in numbers), name
        assert not [*drawn.findall(".//{*}foreignObject"), *drawn.findall(".//{*}script")]
    assert saved(shown, "circuit", "PNG")[:8] == b"\x89PNG\r\n\x1a\n"
    bars = ElementTree.fromstring(saved(shown, "feature", "SVG"))
    hues = {e.get("fill") for e in bars.findall(".//{*}rect")}
    assert {"rgb(0, 114, 178)", "rgb(213, 94, 0)"} <= hues
    assert shown.locator("#panel select").count() == 1  # what was put in place is gone again


def test_it_prints_on_one_page(shown: Page) -> None:
    for tab in ("connections", "feature"):
        shown.evaluate(f"() => {{ location.hash = 'tab={tab}&switches=1,off,1,1'; }}")
        printed = shown.pdf(prefer_css_page_size=True)
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1


def test_a_page_of_version_1_still_works(window: Page, tmp_path: Path) -> None:
    written = sharing.read(FIXTURE).write(tmp_path / "old.html")
    window.goto(written.as_uri() + "#switches=off")
    assert window.locator("#says b").all_text_contents() == ["Austin", "Texas"]
    assert window.locator("#graph .node").count() > 5
    for tab in ("Evidence", "Attention"):
        window.get_by_role("tab", name=tab).click()
        assert window.locator("#panel").inner_text().startswith("Not computed")


def test_what_was_measured_is_shown(
    window: Page, session: Session, atlas: ReplacementModel, tmp_path: Path
) -> None:
    mine = opened(session.graph, atlas, None, None)
    mine.trials.measure()
    mine.trials.sweep(mine.trials.parts[1])
    node = mine.rows["say Austin"].features[0]
    mine.select(node)
    others = [n for n, _ in connections(mine.graph, node, inputs=True)[:3]]
    carriers = mine.attending.carriers(node, others, inputs=True)
    mine.attending.choose_key(mine.attending.places[1])
    reason = mine.attending.sentence(mine.attending.looking)
    window.set_viewport_size({"width": 1366, "height": 768})
    window.goto(sharing.page(mine, progress=False).write(tmp_path / "measured.html").as_uri())
    badges = [mine.trials.badges()[part] for part in mine.trials.parts]
    boxes = window.locator(".cnb-box:has(.cnb-switch) .cnb-told")
    assert boxes.all_text_contents() == badges
    assert window.locator("#panel td.cnb-carrier").all_text_contents()[:4] == [
        *(carriers[n].name if n in carriers else "" for n in others),
        "–",
    ]
    window.get_by_role("tab", name="Attention").click()
    assert reason in window.locator("#panel").inner_text()
    window.get_by_role("tab", name="Evidence").click()
    told = window.locator("#panel").inner_text()
    assert str(mine.trials.found.faithfulness) in told and str(mine.trials.found.verified) in told
    assert "Not computed before" in told and "Not computed of capital, say" in told
    assert window.locator("#panel .cnb-chart").count() == 2


def measured(page: sharing.Page, text: str) -> sharing.Page:
    """A page on which all that is measured is told in one text."""
    curve = {"sizes": [0, 1], "values": [0, 1], "random": [[0, 1]] * 3}
    part = {"box": 0, "name": text, "without": 0.5, "needed": True, "badge": text}
    evidence = {
        "parts": [part],
        "kept": {"text": text, "curve": curve, "cpr": 1, "cmd": 0},
        "verified": {"text": text},
        "combinations": {"text": text, "shapley": [1.0]},
        "sweeps": [
            {
                **{"box": 0, "text": text, "tokens": [text], "multipliers": [0, 1]},
                "probabilities": [[0.1], [0.9]],
            }
        ],
    }
    looked = {
        **{"head": [1, 2], "places": [5, 4], "text": text, "soft_cap": None},
        **{"pattern": [0, 0, 0, 0, 1, 0], "asked": [[text, 1.0]], "answered": [[text, 1.0]]},
    }
    knocked = {"head": [1, 2], "query": 5, "token": text, "shares": [0.9, 0.1]}
    moved = {"edge": [0, 1], "head": [1, 2], "sent": [0, 1], "query": 1, "pattern": [1, 0]}
    attention = {
        **{"edges": [[0, 1, [[1, 2, 0.9]]]], "moved": [moved]},
        **{"looked": [looked], "without": [knocked]},
    }
    return dataclasses.replace(page, evidence=evidence, attention=attention)


def test_hostile_texts_stay_texts(window: Page, tmp_path: Path) -> None:
    labels = hostile_labels()
    session = Session(
        hostile_graph(), cards=lambda keys: {k: card(labels.get(k, "x")) for k in keys}
    )
    session.kept = 1.0
    session.group(HOSTILE[0], [TEXAS, OTHER])
    session.pin(SAY, TokenNode(2), TargetNode(0))
    session.select(SAY)
    page = sharing.page(session, progress=False)
    written = measured(page, HOSTILE[1]).write(tmp_path / "hostile.html")
    window.goto(written.as_uri())
    for tab in ("connections", "paths", "feature", "attention", "evidence", "about"):
        window.evaluate(f"() => {{ location.hash = 'select=feature-2-5-11&tab={tab}'; }}")
        window.wait_for_timeout(100)
        harmless(window)
        assert any(h[:8] in window.locator("#panel").inner_text() for h in HOSTILE), tab
    window.locator("#find").fill("script")
    for node in window.locator("#graph .node").all()[:8]:
        node.hover(force=True)
    for name in ("circuit", "evidence", "attention"):
        drawn = ElementTree.fromstring(saved(window, name, "SVG"))
        assert {e.tag.split("}")[1] for e in drawn.iter()} <= {"svg", "g", "rect", "text", "path"}
    harmless(window)
    assert window.locator("img, iframe, #panel a").count() == 0
