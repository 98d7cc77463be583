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
