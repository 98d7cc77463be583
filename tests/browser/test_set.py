"""The panel Set in a browser: mouse, keyboard and search pick, and texts stay texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from looking import CONTRAST
from playwright.sync_api import Page
from reader import theme, wait_until
from serving import Server, browser_page, run_all, write_notebook

CITIES = ("Dallas", "Houston", "Laredo", "Lubbock", "Waco", "Plano", "Irving", "Odessa")
CELL = f"""
import sys
from dataclasses import replace
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from made import cards, hostile_graph, hostile_labels, small_graph
from circuit_nb import GraphSet, explore
one = small_graph()
graphs = [
    replace(one, prompt="The capital of " + city + " is",
            tokens=tuple(" " + city if t == " Dallas" else t for t in one.tokens))
    for city in {CITIES!r}
]
found = GraphSet.of([*graphs, hostile_graph()], [{{"number": i}} for i in range(9)])
explore(found.labelled(hostile_labels()), cards=cards)
"""
POINT = """(plot, said) => {
  const box = plot.getBoundingClientRect(), { xaxis, yaxis } = plot._fullLayout;
  for (const trace of plot._fullData) {
    const i = [trace.hovertext ?? []].flat().findIndex((text) => text.includes(said));
    if (i < 0) continue;
    const { x, y } = plot.calcdata[trace.index][i];
    return { x: box.x + xaxis._offset + xaxis.d2p(x), y: box.y + yaxis._offset + yaxis.d2p(y) };
  }
}"""
"""Where the point is whose hover text holds some words."""


@pytest.fixture(scope="module")
def opened(lab: Server, folder: Path) -> Iterator[Page]:
    write_notebook(folder / "set.ipynb", CELL)
    with browser_page(1366, 768) as page:
        run_all(page, lab.notebook("set.ipynb"))
        page.locator(".cnb-setpanel .cnb-prompts [data-key]").first.wait_for()
        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
        yield page
        assert page.problems == []  # type: ignore[attr-defined]


def heading(page: Page) -> str:
    """The prompt that is picked."""
    return page.locator(".cnb-picked .cnb-title").inner_text()


def test_mouse_search_and_keyboard_pick_and_texts_stay_texts(opened: Page) -> None:
    page = opened
    panel = page.locator(".cnb-setpanel")
    panel.get_by_role("option", name="Houston").click()
    wait_until(lambda: "Houston" in heading(page), told="the row clicked")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wait_until(lambda: "Laredo" in heading(page), told="the next by keys")
    panel.get_by_placeholder("search prompts").fill("onerror")
    wait_until(lambda: panel.get_by_role("option").count() == 1, told="found")
    panel.get_by_role("option").first.click()
    wait_until(lambda: "<script>" in heading(page), told="the hostile prompt as text")
    panel.get_by_placeholder("search prompts").fill("")
    wait_until(lambda: panel.get_by_role("option").count() == 9, told="all again")
    assert page.evaluate("() => window.hacked") is None
    assert panel.locator("img, script, a").count() == 0


def test_a_point_of_the_map_picks_and_its_graph_opens_beneath(opened: Page) -> None:
    page, panel = opened, opened.locator(".cnb-setpanel")
    panel.get_by_role("option", name="Dallas").click()
    panel.get_by_role("tab", name="Prompts by circuit").click()
    plot = panel.locator(".js-plotly-plot").first
    plot.locator(".points path").first.wait_for()
    drawing = panel.locator(".cnb-drawing")
    assert drawing.count() == 1 and not drawing.is_visible(), "it is drawn"
    far = plot.evaluate(POINT, "onerror")
    page.mouse.move(far["x"], far["y"])
    page.wait_for_timeout(300)
    page.mouse.click(far["x"], far["y"])
    wait_until(lambda: "<script>" in heading(page), told="the point clicked")
    panel.get_by_role("button", name="Open its graph").click()
    beneath = panel.locator(".cnb-explorer")
    beneath.locator(".js-plotly-plot .points path").first.wait_for()
    assert "<script>" in (beneath.locator(".cnb-chips").first.text_content() or "")
    panel.get_by_role("tab", name="Average circuit").click()
    plot.locator("text").first.wait_for()
    assert page.evaluate("() => window.hacked") is None


def test_all_text_of_the_set_stands_out_in_light_and_dark(opened: Page) -> None:
    for name in ("Light", "Dark"):
        theme(opened, name)
        for tab in ("Prompts × features", "Average circuit", "Prompts by circuit"):
            opened.locator(".cnb-setpanel").get_by_role("tab", name=tab, exact=True).click()
            opened.wait_for_timeout(800)
            found = opened.evaluate(CONTRAST, ".cnb-setpanel")
            assert len(found) > 10
            faint = [f for f in found if f[1] < (3.0 if f[2] >= 24 else 4.5)]
            assert not faint, f"{name} {tab}: {faint}"
    theme(opened, "Light")
