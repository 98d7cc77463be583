"""The demo notebook in a real browser: what the reader clicks, and what the reader then sees."""

from __future__ import annotations

import shutil
import uuid

import pytest
from playwright.sync_api import Page
from reader import Reader, wait_until
from serving import Server, run_all

OAKLAND = "Fact: the capital of the state containing Oakland is"


def explore(page: Page, server: Server) -> Reader:
    name = f"{uuid.uuid4().hex[:8]}.ipynb"  # a copy, so that every test has a kernel of its own
    shutil.copy(server.folder / "dallas_austin.ipynb", server.folder / name)
    server.stop_kernels()
    run_all(page, server.notebook(name))
    reader = Reader(page)
    reader.explorer.scroll_into_view_if_needed()
    assert reader.failures() == []
    return reader


@pytest.mark.parametrize("server", ["lab", "classic"])
def test_the_demo(server: str, page: Page, request: pytest.FixtureRequest) -> None:
    reader = explore(page, request.getfixturevalue(server))
    assert reader.answer() == "Austin"
    assert reader.probabilities()["before"]["Austin"] > 90

    # A node is clicked, and the panels follow.
    reader.panel("graph").scroll_into_view_if_needed()
    reader.click_node("<b>Dallas</b>")
    connections = reader.panel("connections")
    wait_until(lambda: "Dallas" in (connections.locator(".cnb-title").text_content() or ""))
    connections.locator("tr[data-key]").filter(has_text="Texas").first.click()
    wait_until(lambda: "Texas" in (connections.locator(".cnb-title").text_content() or ""))

    # Texas off, by the switch on its box, and on again.
    reader.switch("Texas")
    reader.expect(lambda r: r.answer() != "Austin", "Texas off on its box")
    chips = reader.panel("prompt").locator(".cnb-now")
    wait_until(lambda: chips.count() == 1, told="the prompt line says what it becomes")
    reader.switch("Texas")
    reader.expect(lambda r: r.answer() == "Austin", "Texas on again")

    # Texas off: Austin falls, another token comes first, say Austin fades.
    reader.toggle("Texas")
    reader.expect(lambda r: r.probabilities()["after"].get("Austin", 100) < 50, "Austin falls")
    assert reader.answer() != "Austin"
    assert "off" in (reader.box("Texas").text_content() or "")

    # California in: Sacramento.
    reader.swap_in(OAKLAND, "California")
    reader.expect(lambda r: r.answer() == "Sacramento", "Sacramento")

    # The state is found again after the page is loaded anew, while the kernel lives.
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1500)
    page.reload()
    again = Reader(page)
    again.expect(lambda r: r.answer() == "Sacramento", "Sacramento after reloading")
    assert again.row("Texas").locator("button").first.text_content() == "off"

    # Reset: Austin is back.
    again.press("switches", "Reset")
    again.expect(lambda r: r.answer() == "Austin" and not r.probabilities()["after"], "Austin back")

    # The multiplier, typed, then undone.
    again.multiply("Texas", "-1")
    again.expect(lambda r: r.probabilities()["after"].get("Austin", 100) < 50, "×−1")
    again.press("switches", "Undo")
    again.expect(lambda r: not r.probabilities()["after"], "undone")
    assert again.failures() == []


@pytest.mark.parametrize("server", ["lab", "classic"])
def test_keys_in_a_panel_are_the_panels(
    server: str, page: Page, request: pytest.FixtureRequest
) -> None:
    reader = explore(page, request.getfixturevalue(server))
    focused = "() => document.activeElement.innerText || ''"

    # Along the boxes, and Texas off and on again.
    reader.box("Dallas").get_by_role("button").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "Texas"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    reader.expect(lambda r: r.answer() != "Austin", "Texas off by the space bar")
    page.keyboard.press("Enter")
    reader.expect(lambda r: r.answer() == "Austin", "Texas on by Enter")

    # Along the edges of the graph.
    said = reader.panel("graph").locator(".cnb-said")
    before = said.text_content()
    reader.panel("graph").locator(".cnb-room").focus()
    page.keyboard.press("ArrowDown")
    wait_until(lambda: said.text_content() != before, told="walked down")

    # Along the tabs, and a slider of ipywidgets' own.
    reader.explorer.get_by_role("tab", name="Connections").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "Paths"
    reader.row("Texas").locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    readout = reader.row("Texas").locator(".widget-readout")
    wait_until(lambda: readout.text_content() == "0.75", told="the slider moved")

    # Letters are no commands to the notebook; with Ctrl they are.
    cells = page.locator(".jp-Cell")
    count = cells.count()
    reader.panel("switches").get_by_role("button", name="Undo").focus()
    for key in "abxdd":
        page.keyboard.press(key)
    page.wait_for_timeout(500)
    assert cells.count() == count
    changed = page.locator(".jp-mod-dirty")  # JupyterLab's alone
    if changed.count():
        page.keyboard.press("Control+s")
        wait_until(lambda: changed.count() == 0, told="saved")
    assert reader.failures() == []
