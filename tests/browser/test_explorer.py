"""The whole explorer on published graphs: one screen, words, contrast, zoom, motion, clicks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from looking import CONTRAST, LOST, MOVING, assert_clear
from playwright.sync_api import Page
from reader import Reader, theme, wait_until
from real import FOLDER
from serving import Server, browser_page, run_all, write_notebook

SHOWN = ("dallas-clt", "analogies/sad")
CELL = """
from circuit_nb import explore
explore({path!r}, cards=lambda keys: {{}})
"""
SCREEN = 660
"""Pixels that JupyterLab leaves a notebook on a laptop of 1,366 by 768."""
OVERLAPS = """() => {
  const all = (selector) => [...document.querySelectorAll(`.cnb-explorer ${selector}`)];
  const parts = [...all('.cnb-circuit'), ...all('.cnb-outcome'),
                 ...all('.js-plotly-plot'), ...all('.cnb-turns')];
  const boxes = parts.map((e) => [e.className.baseVal ?? e.className, e.getBoundingClientRect()]);
  const crossing = [];
  boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 1) crossing.push([one, other, across, down]);
  }));
  const right = document.querySelector('.cnb-explorer').getBoundingClientRect().right;
  const plot = document.querySelector('.cnb-explorer .cnb-room');
  const fits = (e) => right - e.getBoundingClientRect().right;
  return [Math.min(fits(plot), plot.clientWidth - plot.scrollWidth), crossing];
}"""
"""Pixels that the graph lacks, if negative, and the parts of the explorer that lie on another."""
HIDDEN = """() => {
  const frame = document.querySelector('.cnb-explorer .cnb-wide');
  return frame.scrollWidth - frame.clientWidth;
}"""
"""Pixels of the circuit that are seen only by scrolling sideways."""
PATIENCE = 3.0
"""Seconds that a click may take until it is seen: many times what it takes on an idle machine."""


@pytest.fixture(scope="module", params=SHOWN)
def opened(lab: Server, folder: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The explorer of a published graph, without a model."""
    path = FOLDER / f"{request.param}.json"
    if not path.is_file():
        pytest.skip(f"needs the published graphs in {FOLDER}, which are not part of the project")
    name = f"{path.stem}.ipynb"
    write_notebook(folder / name, CELL.format(path=str(path.resolve())))
    with browser_page(1366, 768) as page:
        run_all(page, lab.notebook(name))
        page.locator(".cnb-explorer .js-plotly-plot .points path").first.wait_for()
        page.locator(".cnb-over text, .cnb-over path").first.wait_for(state="attached")
        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
        yield page
        assert page.problems == []  # type: ignore[attr-defined]


@pytest.fixture
def page(opened: Page) -> Page:
    """The explorer in a laptop's window."""
    resize(opened, 1366, 768)
    return opened


def resize(page: Page, width: int, height: int) -> None:
    """Give the window another size and wait until all is laid out for it."""
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(1500)


def test_circuit_and_answer_share_a_screen_and_the_graph_is_whole(page: Page) -> None:
    for width, height in ((1366, 768), (1920, 1080), (950, 768)):
        resize(page, width, height)
        top = page.locator(".cnb-explorer").bounding_box()
        assert top is not None
        for part in (".cnb-circuit", ".cnb-outcome svg", ".cnb-chips"):
            box = page.locator(part).first.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] - top["y"] < SCREEN, (width, part)
        assert_clear(page, f"explorer at {width}")


def test_at_every_width_no_panel_runs_into_another(page: Page) -> None:
    # A laptop's JupyterLab with its file browser open leaves the explorer 934 pixels.
    for width in range(880, 1420, 60):
        resize(page, width, 768)
        hidden = page.evaluate(HIDDEN)
        assert hidden <= 0, f"the circuit is cut {hidden} pixels short at {width}"
        within, panels = page.evaluate(OVERLAPS)
        assert within > -1, f"the graph is cut {-within} pixels short at {width}"
        assert panels == [], f"at {width}"


def test_all_text_stands_out_in_light_and_dark(page: Page) -> None:
    reader = Reader(page)
    try:
        for name in ("Light", "Dark"):
            theme(page, name)
            for tab in ("Paths", "Feature", "Switches", "Connections"):
                reader.turn_to(tab)
                found = page.evaluate(CONTRAST)
                assert len(found) > 100
                faint = [f for f in found if f[1] < (3.0 if f[2] >= 24 else 4.5)]
                assert not faint, f"{name} {tab}: {faint}"
    finally:
        theme(page, "Light")


def test_at_twice_the_size_nothing_is_lost_at_the_side(page: Page) -> None:
    resize(page, 683, 384)
    reader = Reader(page)
    for tab in ("Paths", "Feature", "Switches", "Connections"):
        reader.turn_to(tab)
        assert page.evaluate(LOST) == [], tab


def test_every_panel_fills_the_window_and_comes_back(page: Page) -> None:
    resize(page, 1366, 768)
    Reader(page).turn_to("Connections")
    window = {"x": 0, "y": 0, "width": 1366, "height": 768}
    for name in ("subgraph", "answer", "connections"):
        panel = page.locator(f".cnb-{name}panel")
        before = panel.bounding_box()
        button = panel.get_by_role("button", name="Fill the window")
        button.click()
        wait_until(lambda panel=panel: panel.bounding_box() == window, told=name)
        button.press("Escape")

        def is_back(panel: Any = panel, before: Any = before) -> bool:
            now = panel.bounding_box()
            return all(abs(now[side] - before[side]) < 2 for side in ("width", "height"))

        wait_until(is_back, told=name)


def test_nothing_moves_by_itself(page: Page) -> None:
    assert page.evaluate(MOVING) == []
    page.emulate_media(reduced_motion="reduce")
    try:
        name = page.evaluate(
            """() => {
              const busy = document.createElement('div');
              busy.className = 'cnb-busy';
              busy.innerHTML = '<i></i>';
              document.querySelector('.cnb-answerpanel').append(busy);
              const name = getComputedStyle(busy.firstChild).animationName;
              busy.remove();
              return name;
            }"""
        )
        assert name == "none"
    finally:
        page.emulate_media(reduced_motion="no-preference")


def test_a_click_on_a_node_is_soon_seen_everywhere(page: Page) -> None:
    reader = Reader(page)
    over = "() => [...document.querySelectorAll('.cnb-over')].map((g) => g.innerHTML).join()"
    heading = reader.panel("connections").locator(".cnb-title")
    for said in ("layer 18 ", "layer 16 "):
        before = [page.evaluate(over), heading.inner_text()]
        reader.click_node(said)

        def both_changed(old: list[str] = before) -> bool:
            return page.evaluate(over) != old[0] and heading.inner_text() != old[1]

        wait_until(both_changed, seconds=PATIENCE, told=f"{said} selected")
    assert reader.failures() == []
