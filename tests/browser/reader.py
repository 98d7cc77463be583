"""What a reader does to the explorer, and what the reader sees."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from playwright.sync_api import Locator, Page

NODES = (".js-plotly-plot .points path",)


def wait_until(condition: Callable[[], bool], *, seconds: float = 30, told: str = "") -> None:
    """Wait for the page to change.

    Raises:
        AssertionError: If it does not in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"Not seen within {seconds:g} s: {told}")


def theme(page: Page, name: str) -> None:
    """Show JupyterLab in light or dark."""
    page.evaluate(
        "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
        f"JupyterLab {name}",
    )
    wait_until(
        lambda: (
            page.evaluate("() => document.body.dataset.jpThemeLight")
            == str(name == "Light").lower()
        ),
        told=name,
    )
    page.wait_for_timeout(500)


class Reader:
    """Sees and uses one explorer on a page.

    Args:
        page: A page whose notebook was run.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.explorer = page.locator(".cnb-explorer").last
        self.explorer.locator(".js-plotly-plot .points path").first.wait_for()
        self.explorer.locator(".cnb-outcome svg").wait_for()

    def panel(self, name: str) -> Locator:
        """A panel by its name, e.g. `graph`."""
        return self.explorer.locator(f".cnb-{name}panel")

    def probabilities(self) -> dict[str, dict[str, float]]:
        """Next-token probabilities as the bars show them, by `before` or `after`."""
        titles = self.explorer.locator(".cnb-outcome svg rect > title").all_text_contents()
        found: dict[str, dict[str, float]] = {"before": {}, "after": {}}
        for title in titles:
            match = re.fullmatch(r"(.*): (?:< )?([\d.]+) %(?: (before|after))?", title)
            assert match, title
            found[match[3] or "before"][match[1]] = float(match[2])
        return found

    def answer(self) -> str:
        """The token the model is said to say, under the switches if any is set."""
        return self.explorer.locator(".cnb-says").last.text_content() or ""

    def expect(self, condition: Callable[[Reader], bool], told: str) -> None:
        """Wait for the bars to satisfy a condition."""
        wait_until(lambda: condition(self), told=f"{told}; {self.probabilities()}")

    def turn_to(self, title: str) -> None:
        """Open one of the panels that take turns."""
        self.explorer.get_by_role("tab", name=title).click()
        # What is not shown yet takes no focus and no keys.
        self.panel(title.lower()).wait_for(state="visible")

    def box(self, name: str) -> Locator:
        """A box of the circuit."""
        return self.explorer.locator(".cnb-box").filter(has_text=name).first

    def switch(self, name: str) -> None:
        """Click the switch on a box."""
        self.box(name).get_by_role("switch").click()

    def row(self, name: str) -> Locator:
        """The row of a switch, with its panel open."""
        self.turn_to("Switches")
        return self.explorer.locator(".cnb-row").filter(has_text=name).first

    def toggle(self, name: str) -> None:
        """Click the on/off button of a row."""
        self.row(name).locator("button").first.click()

    def swap_in(self, prompt: str, choice: str) -> None:
        """Read another prompt and add one of the groups it offers."""
        self.turn_to("Switches")
        switches = self.panel("switches")
        switches.get_by_placeholder("another prompt").fill(prompt)
        switches.get_by_placeholder("another prompt").press("Tab")
        self.press("switches", "Read")
        offered = self.page.locator("option", has_text=choice)
        wait_until(lambda: switches.locator(offered).count() > 0, seconds=60, told=choice)
        switches.locator("select").filter(has=offered).select_option(label=choice)
        self.press("switches", "Add")

    def multiply(self, name: str, text: str) -> None:
        """Type a multiplier into a row."""
        readout = self.row(name).locator(".widget-readout")
        wait_until(lambda: readout.get_attribute("contenteditable") == "true", told="a free slider")
        readout.click()
        readout.fill(text)
        readout.press("Enter")

    def point_at(self, said: str) -> tuple[float, float]:
        """Move the mouse to the node whose hover text holds `said`; returns where that is."""
        place = self.page.evaluate(
            """([said]) => {
              const plots = document.querySelectorAll('.cnb-explorer .js-plotly-plot');
              const plot = plots[plots.length - 1];
              for (const trace of plot._fullData) {
                const texts = trace.hovertext;
                if (!Array.isArray(texts)) continue;
                const i = texts.findIndex((text) => text.includes(said));
                if (i < 0) continue;
                plot.scrollIntoView({ block: 'center' });
                const box = plot.getBoundingClientRect(), { xaxis, yaxis } = plot._fullLayout;
                return { x: box.x + xaxis._offset + xaxis.d2p(plot.calcdata[trace.index][i].x),
                         y: box.y + yaxis._offset + yaxis.d2p(plot.calcdata[trace.index][i].y) };
              }
              return null;
            }""",
            [said],
        )
        assert place is not None, f"no node says {said!r}"
        self.page.mouse.move(place["x"], place["y"])
        self.page.wait_for_timeout(150)
        return place["x"], place["y"]

    def click_node(self, said: str) -> None:
        """Click the node whose hover text holds `said`."""
        self.page.mouse.click(*self.point_at(said))

    def press(self, panel: str, text: str) -> None:
        """Click a button of a panel."""
        self.panel(panel).get_by_role("button", name=text, exact=True).click()

    def failures(self) -> list[str]:
        """Errors shown under the panels."""
        return self.explorer.locator(".cnb-failure").all_text_contents()
