"""The controls of the demo's explorer, one after the other on one page, each from the beginning."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import PICTURES
from reader import Reader, wait_until
from serving import Server, browser_page, run_all

FOREIGN = (
    "* { box-sizing: border-box; } small { font-size: 92%; }",  # Notebook 6
    "*, ::before, ::after { box-sizing: unset; } .lm-Widget { overflow: hidden; }",  # JupyterLab 3
)
"""What other notebooks' style sheets say of every element."""
SIZES = """() => [...document.querySelectorAll('.cnb-explorer :is(.cnb, .cnb *, .cnb-lens button)')]
  .filter((e) => e.getClientRects().length && !e.closest('svg, option'))
  .map((e) => [e.className || e.tagName, e.offsetWidth, e.offsetHeight])"""


@pytest.fixture(scope="module")
def demo(lab: Server) -> Iterator[Reader]:
    """The demo notebook, run once."""
    with browser_page(1500, 1500) as page:
        run_all(page, lab.notebook("dallas_austin.ipynb"))
        yield Reader(page)
        assert page.problems == []  # type: ignore[attr-defined]


@pytest.fixture
def reader(demo: Reader, request: pytest.FixtureRequest) -> Iterator[Reader]:
    """The explorer with everything on and the answer selected; left as a picture."""
    demo.page.set_viewport_size({"width": 1500, "height": 1500})
    demo.press("subgraph", "Reset")
    demo.expect(lambda r: r.answer() == "Austin" and not r.probabilities()["after"], "all is on")
    demo.panel("prompt").locator(".cnb-answer[data-key]").first.click()
    demo.turn_to("Connections")
    demo.explorer.scroll_into_view_if_needed()
    yield demo
    PICTURES.mkdir(parents=True, exist_ok=True)
    demo.page.screenshot(path=PICTURES / f"{request.node.name}.png")
    assert demo.failures() == []


def test_sliding_fast_ends_where_the_slider_is(reader: Reader) -> None:
    handle = reader.row("Texas").locator(".noUi-handle")
    handle.focus()
    for _ in range(16):
        reader.page.keyboard.press("ArrowLeft")
    readout = reader.row("Texas").locator(".widget-readout")
    wait_until(lambda: "3.00" in (readout.text_content() or ""), told="the slider at −3")
    box = reader.box("Texas").locator(".cnb-told")
    wait_until(lambda: (box.text_content() or "") == "×−3", seconds=5, told="×−3")
    reader.expect(lambda r: r.probabilities()["after"].get("Austin", 100) < 50, "Austin falls")


def test_the_keyboard_reaches_the_controls(reader: Reader) -> None:
    chip = reader.panel("prompt").locator("[data-key]").nth(4)
    chip.focus()
    reader.page.keyboard.press("Enter")
    title = reader.panel("connections").locator(".cnb-title")
    wait_until(lambda: "token capital" in (title.text_content() or ""), told="token selected")
    button = reader.row("Texas").locator("button").first
    button.focus()
    reader.page.keyboard.press("Space")
    reader.expect(lambda r: r.answer() != "Austin", "Texas off by keyboard")


@pytest.mark.parametrize("size", [(1366, 768), (1920, 1080), (950, 768)])
def test_boxes_with_switches_and_the_answer_share_one_screen(
    size: tuple[int, int], reader: Reader
) -> None:
    page = reader.page
    page.set_viewport_size({"width": size[0] if size[0] != 950 else 1366, "height": size[1]})
    if size[0] == 950:  # Colab's column
        reader.explorer.evaluate("e => e.style.setProperty('width', '950px', 'important')")
        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    page.wait_for_timeout(1000)
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
    if size[0] == 950:
        reader.explorer.evaluate("e => e.style.removeProperty('width')")
        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")


def test_from_the_keyboard_alone_texas_is_switched_off(reader: Reader) -> None:
    reader.box("Dallas").get_by_role("button").focus()
    reader.page.keyboard.press("ArrowRight")
    focused = "() => document.activeElement.closest('.cnb-box')?.innerText || ''"
    assert "Texas" in reader.page.evaluate(focused)
    reader.page.keyboard.press("Tab")
    assert reader.page.evaluate("() => document.activeElement.getAttribute('role')") == "switch"
    reader.page.keyboard.press("Space")
    reader.expect(lambda r: r.answer() != "Austin", "Texas off by keyboard")
    assert (
        reader.page.evaluate("() => document.activeElement.getAttribute('aria-checked')") == "false"
    )


def test_a_feature_that_is_not_active_is_found_and_added(reader: Reader) -> None:
    field = reader.panel("find").get_by_role("combobox")
    field.fill("California")
    listed = reader.panel("find").locator('[role="option"]')
    wait_until(lambda: "not active here" in " ".join(listed.all_text_contents()), told="California")
    listed.filter(has_text="not active here").first.click()
    wait_until(lambda: reader.explorer.locator(".cnb-box-guest").count() == 1, told="a new box")
    reader.expect(lambda r: bool(r.probabilities()["after"]), "it is run")
    for _ in range(2):  # and the same again
        field.fill("California")
        wait_until(lambda: listed.first.is_visible(), told="what was found before")
        field.press("Escape")
        wait_until(lambda: not listed.first.is_visible(), told="closed")


def test_why_and_whether_it_is_true(reader: Reader) -> None:
    """From an edge to its head and why it looked; then what the boxes keep, on the boxes too."""
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


def test_other_notebooks_style_sheets_change_no_size(reader: Reader) -> None:
    page = reader.page
    field = reader.panel("find").get_by_role("combobox")
    listed = reader.panel("find").locator('[role="option"]')
    assert (
        reader.box("Texas").get_by_role("switch").evaluate("e => getComputedStyle(e).borderRadius")
        == "7px"
    ), "JupyterLab 4 gives every button its own corners"
    field.fill("California")
    listed.first.wait_for()
    before = page.evaluate(SIZES)
    for rules in FOREIGN:
        # First of all, as a notebook's own are.
        sheet = page.evaluate_handle(
            """(rules) => {
              const sheet = document.createElement('style');
              sheet.textContent = rules;
              document.head.prepend(sheet);
              return sheet;
            }""",
            rules,
        )
        try:
            page.wait_for_timeout(500)
            assert page.evaluate(SIZES) == before, rules
            hit = """e => {
              const { x, y, width, height } = e.getBoundingClientRect();
              return e.contains(document.elementFromPoint(x + width / 2, y + height / 2));
            }"""
            assert listed.last.evaluate(hit), "what was found is not cut off"
        finally:
            sheet.evaluate("sheet => sheet.remove()")
    field.fill("")
