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


def test_sliding_fast_ends_where_the_slider_is(page: Page, lab: Server) -> None:
    reader = explore(page, lab)
    handle = reader.row("Texas").locator(".noUi-handle")
    handle.focus()
    for _ in range(16):
        page.keyboard.press("ArrowLeft")
    readout = reader.row("Texas").locator(".widget-readout")
    wait_until(lambda: "3.00" in (readout.text_content() or ""), told="the slider at −3")
    box = reader.box("Texas").locator(".cnb-told")
    wait_until(lambda: (box.text_content() or "") == "×−3", seconds=5, told="×−3")
    reader.expect(lambda r: r.probabilities()["after"].get("Austin", 100) < 50, "Austin falls")


def test_the_keyboard_reaches_the_controls(page: Page, lab: Server) -> None:
    reader = explore(page, lab)
    chip = reader.panel("prompt").locator("[data-key]").nth(4)
    chip.focus()
    page.keyboard.press("Enter")
    title = reader.panel("connections").locator(".cnb-title")
    wait_until(lambda: "token capital" in (title.text_content() or ""), told="token selected")
    button = reader.row("Texas").locator("button").first
    button.focus()
    page.keyboard.press("Space")
    reader.expect(lambda r: r.answer() != "Austin", "Texas off by keyboard")


@pytest.mark.parametrize("size", [(1366, 768), (1920, 1080), (950, 768)])
def test_boxes_with_switches_and_the_answer_share_one_screen(
    size: tuple[int, int], page: Page, lab: Server
) -> None:
    page.set_viewport_size({"width": size[0] if size[0] != 950 else 1366, "height": size[1]})
    reader = explore(page, lab)
    if size[0] == 950:  # Colab's column
        page.add_style_tag(content=".cnb-explorer { width: 950px !important; }")
        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
        page.wait_for_timeout(500)
    reader.explorer.evaluate("e => e.scrollIntoView()")
    shown = page.locator(".jp-WindowedPanel-outer").first.bounding_box()
    assert shown is not None
    parts = [*reader.explorer.locator(".cnb-box").all(), reader.explorer.locator(".cnb-outcome")]
    assert len(parts) > 4
    for part in parts:
        place = part.bounding_box()
        assert place is not None
        assert place["y"] >= shown["y"] - 1
        assert place["y"] + place["height"] <= shown["y"] + shown["height"] + 1
        assert place["x"] + place["width"] <= shown["x"] + shown["width"] + 1


def test_from_the_keyboard_alone_texas_is_switched_off(page: Page, lab: Server) -> None:
    reader = explore(page, lab)
    reader.box("Dallas").get_by_role("button").focus()
    page.keyboard.press("ArrowRight")
    focused = "() => document.activeElement.closest('.cnb-box')?.innerText || ''"
    assert "Texas" in page.evaluate(focused)
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.getAttribute('role')") == "switch"
    page.keyboard.press("Space")
    reader.expect(lambda r: r.answer() != "Austin", "Texas off by keyboard")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-checked')") == "false"


def test_a_feature_that_is_not_active_is_found_and_added(page: Page, lab: Server) -> None:
    reader = explore(page, lab)
    field = reader.panel("find").get_by_role("combobox")
    field.fill("California")
    listed = reader.panel("find").locator('[role="option"]')
    wait_until(lambda: "not active here" in " ".join(listed.all_text_contents()), told="California")
    listed.filter(has_text="not active here").first.click()
    wait_until(lambda: reader.explorer.locator(".cnb-box-guest").count() == 1, told="a new box")
    reader.expect(lambda r: bool(r.probabilities()["after"]), "it is run")
    assert reader.failures() == []


def test_why_and_whether_it_is_true(page: Page, lab: Server) -> None:
    """From an edge to its head and why it looked; then what the boxes keep, on the boxes too."""
    reader = explore(page, lab)
    connections = reader.panel("connections")
    connections.locator("tr[data-key]").filter(has_text="say Austin").first.click()
    via = connections.locator("td[data-key]").first
    via.wait_for()
    via.click()
    attention = reader.panel("attention")
    attention.wait_for(state="visible")
    attention.locator('rect[data-key^="head-"]').first.wait_for()
    attention.locator('[data-key^="to-"][aria-pressed="true"]').click()
    attention.get_by_text("answered", exact=True).wait_for()

    reader.turn_to("Evidence")
    evidence = reader.panel("evidence")
    evidence.get_by_role("button", name="Measure").click()
    evidence.get_by_text("random features of the same number keep").wait_for()
    wait_until(lambda: "graph −" in (reader.box("Texas").text_content() or ""), told="badge")
    evidence.locator('[data-key="curve"]').click()
    plot = evidence.locator(".js-plotly-plot")
    plot.locator(".scatterlayer").wait_for()
    room, drawn = (x.bounding_box() for x in (evidence, plot))
    assert room and drawn and drawn["x"] + drawn["width"] <= room["x"] + room["width"] + 1
    assert reader.failures() == []
