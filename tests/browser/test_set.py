"""The panel Set in a browser: a prompt is picked with mouse and keyboard and leads to its graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from looking import CONTRAST, LOST
from playwright.sync_api import Page
from reader import Reader, wait_until
from serving import Server, browser_page, run_all, write_notebook
from test_explorer import resize, theme

CELL = """
from circuit_nb import attribute_many, explore, load
from circuit_nb.atlas.world import load_world
from circuit_nb.graphsets import template
rows = [{"kind": p.kind, "city": c} for p in load_world().places[38:58] for c in p.cities[:2]]
model = load("atlas")
asks = template("Fact: the capital of the {kind} containing {city} is", rows)
explore(model, attribute_many(model, asks, "set", progress=False))
"""
IN_SET = (
    CONTRAST.replace(".cnb-explorer", ".cnb-setpanel"),
    LOST.replace(".cnb-explorer", ".cnb-setpanel"),
)


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


def test_mouse_search_and_keyboard_pick(opened: Page) -> None:
    page = opened
    panel = page.locator(".cnb-setpanel")
    panel.get_by_role("option", name="Houston").click()
    wait_until(lambda: "Houston" in heading(page), told="the row clicked")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wait_until(lambda: "Houston" not in heading(page), told="the next by keys")
    panel.get_by_placeholder("search prompts").fill("lyon")
    wait_until(lambda: panel.get_by_role("option").count() == 1, told="found")
    panel.get_by_role("option").first.click()
    wait_until(lambda: "Lyon" in heading(page), told="France")
    panel.get_by_placeholder("search prompts").fill("")
    wait_until(lambda: panel.get_by_role("option").count() == 40, told="all again")


def test_figures_turn_up_and_a_point_picks(opened: Page) -> None:
    page = opened
    panel = page.locator(".cnb-setpanel")
    panel.get_by_role("tab", name="Average circuit").click()
    panel.locator(".js-plotly-plot .points path").first.wait_for()
    panel.get_by_role("tab", name="Prompts by circuit").click()
    points = panel.locator(".js-plotly-plot .points path")
    wait_until(lambda: points.count() == 41, told="a point a prompt, and the ring")
    assert "Newport" not in heading(page)
    box = points.first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(300)
    page.mouse.down()
    page.mouse.up()
    wait_until(lambda: "Newport" in heading(page), told="the first prompt")
    panel.get_by_role("tab", name="Prompts × features").click()
    panel.locator(".cnb-prompts").wait_for()


def test_text_stands_out_and_nothing_is_lost(opened: Page) -> None:
    page = opened
    contrast, lost = IN_SET
    try:
        for name in ("Light", "Dark"):
            theme(page, name)
            found = page.evaluate(contrast)
            assert len(found) > 60
            faint = [f for f in found if f[1] < (3.0 if f[2] >= 24 else 4.5)]
            assert not faint, f"{name}: {faint}"
    finally:
        theme(page, "Light")
    for width in (1366, 950, 683):
        resize(page, width, 768)
        assert page.evaluate(lost) == [], width
    resize(page, 1366, 768)


def test_the_explorer_opens_beneath_and_its_switches_work(opened: Page) -> None:
    page = opened
    panel = page.locator(".cnb-setpanel")
    panel.get_by_role("option", name="Houston").click()
    wait_until(lambda: "Houston" in heading(page), told="picked")
    panel.get_by_role("button", name="Open its graph").click()
    reader = Reader(page)
    assert "Austin" in reader.answer()
    reader.switch("Texas")
    wait_until(lambda: reader.probabilities()["after"].get("Austin", 1) < 10, told="Texas off")
    assert panel.locator(":scope > * .cnb-failure").all_text_contents() == []
