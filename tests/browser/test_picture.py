"""The graph's picture as a browser draws it: all inside, no word on another, zoom and keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from looking import MEASURE, assert_clear
from playwright.sync_api import Page
from reader import wait_until
from real import FOLDER, real_graph
from serving import Server, browser_page, run_all, write_notebook

from circuit_nb import figures

WIDTHS = ((700, 900), (950, 900), (1366, 768), (1920, 1080))
SHOWN = ("dallas-clt", "small-big-plt", "bee-insect-plt", "analogies/sad")
"""Shown at every width; the others at one."""
EVERY = sorted(str(p.relative_to(FOLDER).with_suffix("")) for p in FOLDER.rglob("*.json"))

CELL = """
import sys
sys.path.insert(0, {tests!r})
from real import real_graph
from circuit_nb.cards import FeatureCard
from circuit_nb.analysis import story
from circuit_nb.graph import TargetNode
from circuit_nb.panels import GraphPanel, Session
graph, labels = real_graph({name!r})
cards = {{k: FeatureCard(t, source="neuronpedia") for k, t in labels.items()}}
session = Session(graph, cards=cards)
session.paths = (story(graph, session.labels)[0],)
session.select(TargetNode(0))
panel = GraphPanel(session)
panel
"""


@pytest.mark.parametrize("name", SHOWN)
def test_a_written_page_fits_every_window(name: str, tmp_path: Path) -> None:
    graph, labels = real_graph(name)
    page_file = figures.write_graph(graph, tmp_path / "graph.html", labels=labels)
    with browser_page() as page:
        page.goto(page_file.as_uri())
        for width, height in WIDTHS:
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(500)
            assert_clear(page, f"{name} at {width}")
            shown, scrolled = page.evaluate(MEASURE)["page"]
            assert scrolled <= shown
        assert "nodes drawn" in page.locator("p").first.inner_text()
        assert page.problems == []  # type: ignore[attr-defined]


def test_every_published_graph_fits(tmp_path: Path) -> None:
    others = [name for name in EVERY if name not in SHOWN]
    if not others:
        pytest.skip(f"needs the published graphs in {FOLDER}, which are not part of the project")
    with browser_page(950, 900) as page:
        for name in others:
            graph, labels = real_graph(name)
            page.goto(figures.write_graph(graph, tmp_path / "graph.html", labels=labels).as_uri())
            page.locator(".js-plotly-plot .points path").first.wait_for()
            page.wait_for_timeout(500)
            assert_clear(page, name, words=5)  # one output, no labels: few have a name
        assert page.problems == []  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def opened(lab: Server, folder: Path) -> Iterator[Page]:
    """The graph panel of a published graph, in one notebook for all tests."""
    if not FOLDER.is_dir():
        pytest.skip(f"needs the published graphs in {FOLDER}, which are not part of the project")
    cell = CELL.format(tests=str(Path(__file__).parents[1]), name="dallas-clt")
    write_notebook(folder / "picture.ipynb", cell)
    with browser_page(1366, 768) as page:
        run_all(page, lab.notebook("picture.ipynb"))
        page.locator(".cnb-graphpanel .js-plotly-plot .points path").first.wait_for()
        page.locator(".cnb-over text, .cnb-over path").first.wait_for(state="attached")
        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
        yield page
        assert page.problems == []  # type: ignore[attr-defined]


@pytest.fixture
def panel(opened: Page) -> Page:
    """The panel as it opens, in a laptop's window."""
    opened.set_viewport_size({"width": 1366, "height": 768})
    settle(opened)
    return opened


def settle(page: Page) -> None:
    """Wait until the picture is laid out for the room it has, and stays as it is for a second."""
    seen: list[object] = []

    def still() -> bool:
        seen.append(page.evaluate(MEASURE))
        page.wait_for_timeout(250)
        wide = page.evaluate(
            """() => document.querySelector('.js-plotly-plot')._fullLayout.width
                     - document.querySelector('.cnb-room').clientWidth"""
        )
        return abs(wide) <= 1 and len(seen) > 4 and all(s == seen[-1] for s in seen[-4:])

    wait_until(still, told="the picture laid out")


def ranges(page: Page) -> list[float]:
    """What part of the picture is seen."""
    return page.evaluate(
        """() => { const { xaxis, yaxis } = document.querySelector('.js-plotly-plot')._fullLayout;
                  return [...xaxis.range, ...yaxis.range]; }"""
    )


def selected(page: Page) -> str:
    return page.locator(".cnb-said").text_content() or ""


WHOLE = [0, 1000, 0, 1000]


def test_in_the_notebook_at_every_width(panel: Page) -> None:
    for width, height in WIDTHS[1:]:
        panel.set_viewport_size({"width": width, "height": height})
        settle(panel)
        assert_clear(panel, f"panel at {width}")
    assert "of 415 nodes drawn" in panel.locator(".cnb-graphpanel").inner_text()


def test_zoom_by_wheel_buttons_and_keys_and_back(panel: Page) -> None:
    plot = panel.locator(".cnb-room")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 3
    panel.mouse.move(*middle)
    panel.mouse.wheel(0, -300)
    panel.wait_for_timeout(400)
    assert ranges(panel) == WHOLE, "the page scrolls past a picture nobody is in"
    plot.scroll_into_view_if_needed()
    plot.focus()
    box = plot.bounding_box()
    assert box is not None
    panel.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    panel.mouse.wheel(0, -300)
    wait_until(lambda: ranges(panel) != WHOLE, told="zoomed by the wheel")
    before = panel.locator(".cnb-over-below path").first.get_attribute("d")
    panel.get_by_role("button", name="Show the whole picture").click()
    wait_until(lambda: ranges(panel) == WHOLE, told="back by the button")
    assert panel.locator(".cnb-over-below path").first.get_attribute("d") != before
    panel.get_by_role("button", name="Zoom in").click()
    wait_until(lambda: ranges(panel)[1] - ranges(panel)[0] < 600, told="zoomed by the button")
    plot.focus()
    panel.keyboard.press("0")
    wait_until(lambda: ranges(panel) == WHOLE, told="back by key")
    panel.keyboard.press("+")
    wait_until(lambda: ranges(panel) != WHOLE, told="zoomed by key")
    panel.mouse.dblclick(box["x"] + 300, box["y"] + 60)
    wait_until(lambda: ranges(panel) == WHOLE, told="back by a double click")


def test_whole_again_at_once_after_a_turn_of_the_wheel(panel: Page) -> None:
    """Plotly lays the turn out later, and must not take the whole picture away again."""
    panel.locator(".cnb-room").focus()
    panel.evaluate(
        """() => {
          const drag = document.querySelector('.js-plotly-plot .nsewdrag');
          const { x, y, width, height } = drag.getBoundingClientRect();
          drag.dispatchEvent(new WheelEvent('wheel', { deltaY: -300, bubbles: true,
            cancelable: true, clientX: x + width / 2, clientY: y + height / 3 }));
          const seen = window.seen = [];
          document.querySelector('.js-plotly-plot').on('plotly_relayout', (e) => seen.push(e));
          document.querySelector('[aria-label="Show the whole picture"]').click();
        }"""
    )
    wait_until(lambda: panel.evaluate("() => window.seen.length") == 2, told="turned and back")
    assert ranges(panel) == WHOLE


def test_arrows_walk_along_edges_and_enter_pins(panel: Page) -> None:
    assert selected(panel) == "output Austin"
    panel.locator(".cnb-room").focus()
    seen = [selected(panel)]
    for key in ("ArrowDown", "ArrowRight", "ArrowUp"):
        panel.keyboard.press(key)
        wait_until(lambda: selected(panel) != seen[-1], told=f"{key} from {seen[-1]}")
        seen.append(selected(panel))
    assert seen[1] != seen[2]
    rings = panel.locator(".cnb-over circle").count()
    assert rings == 1
    panel.keyboard.press("Enter")
    pinned = """() => document.querySelector('.js-plotly-plot')._fullLayout.shapes
                  .filter((s) => s.name === 'pinned').length"""
    wait_until(lambda: panel.evaluate(pinned) == 1, told="pinned")


def test_the_panel_fills_the_window_and_comes_back(panel: Page) -> None:
    small = panel.locator(".js-plotly-plot").bounding_box()
    panel.get_by_role("button", name="Fill the window").click()
    settle(panel)
    large = panel.locator(".js-plotly-plot").bounding_box()
    assert small is not None and large is not None
    assert large["width"] > 1300 and large["height"] > small["height"]
    whole = panel.locator(".cnb-graphpanel").bounding_box()
    assert whole == {"x": 0, "y": 0, "width": 1366, "height": 768}
    assert_clear(panel, "filling the window")
    panel.locator(".cnb-room").focus()
    panel.keyboard.press("Escape")
    settle(panel)
    again = panel.locator(".js-plotly-plot").bounding_box()
    assert again is not None and again["width"] == small["width"]


def test_a_mark_opens_and_the_whole_picture_closes_it(panel: Page) -> None:
    count = "() => document.querySelectorAll('.js-plotly-plot .points path').length"
    place = panel.evaluate(
        """() => {
          const plot = document.querySelector('.js-plotly-plot');
          plot.scrollIntoView({ block: 'center' });
          const trace = plot.calcdata.find((c) => c[0].trace?.name === 'marks');
          const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
          return [box.x + xaxis._offset + xaxis.d2p(trace[0].x),
                  box.y + yaxis._offset + yaxis.d2p(trace[0].y)];
        }"""
    )
    text = panel.locator(".cnb-graphpanel").inner_text()
    assert "in + marks" in text
    before = panel.evaluate(count)
    panel.mouse.move(*place)
    panel.wait_for_timeout(200)
    panel.mouse.click(*place)
    wait_until(lambda: panel.evaluate(count) > before, told="opened")
    assert_clear(panel, "with an open mark")
    panel.get_by_role("button", name="Show the whole picture").click()
    wait_until(lambda: panel.evaluate(count) == before, told="closed")
