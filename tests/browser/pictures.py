"""Pictures for README and docs: the explorer as it is, in light and dark JupyterLab.

    python tests/browser/pictures.py [NAME ...]

Writes into `docs/images`: `explorer-*` (Texas off, California in its place), `panels-*` (as it
opens, with the numbers of docs/concepts.md), and, where the published graphs are at hand, `gemma`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from packing import smaller  # noqa: E402
from playwright.sync_api import Page  # noqa: E402
from reader import Reader  # noqa: E402
from serving import Server, browser_page, run_all, write_notebook  # noqa: E402

IMAGES = ROOT / "docs" / "images"
PUBLISHED = ROOT.parent / "shared" / "real_graphs" / "dallas-clt.json"
OAKLAND = "Fact: the capital of the state containing Oakland is"
TABS = {2: "Connections", 3: "Paths", 4: "Feature", 6: "Switches", 7: "Attention", 8: "Evidence"}
NUMBER = """(element, number) => {
  const at = element.getBoundingClientRect();
  const out = element.getAttribute("role") === "tab" ? 8 : 19;
  const badge = document.createElement("div");
  badge.textContent = number;
  badge.style.cssText = `position: fixed; z-index: 99; width: 18px; height: 18px; color: #fff;
    border-radius: 50%; background: #0072b2; font: 600 12px/18px sans-serif; text-align: center;
    left: ${at.x - out}px; top: ${at.y - 12}px`;
  document.body.append(badge);
}"""


@contextmanager
def opened(notebook: str, theme: str, cell: str = "") -> Iterator[Reader]:
    """A reader before the explorer of a notebook, or of one cell."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if cell:
            write_notebook(folder / notebook, cell)
        else:
            shutil.copy(ROOT / "notebooks" / notebook, folder)
        server = Server("lab", folder, dark=theme == "dark")
        try:
            with browser_page(1280, 2000) as page:
                run_all(page, server.notebook(notebook))
                reader = Reader(page)
                page.evaluate(
                    "() => window.jupyterapp.commands.execute('application:toggle-left-area')"
                )
                page.wait_for_timeout(2500)
                yield reader
        finally:
            server.close()


def keep(page: Page, reader: Reader, name: str) -> None:
    """Write a picture of the explorer."""
    page.mouse.move(5, 5)
    page.wait_for_timeout(1500)
    IMAGES.mkdir(parents=True, exist_ok=True)
    path = IMAGES / f"{name}.png"
    path.write_bytes(smaller(page, reader.explorer.screenshot()))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


def numbered(reader: Reader) -> None:
    """Put the numbers of the docs on the panels."""
    reader.explorer.scroll_into_view_if_needed()
    for number, name in ((1, "graph"), (5, "subgraph")):
        reader.panel(name).locator(".cnb-title").first.evaluate(NUMBER, number)
    for number, title in TABS.items():
        reader.explorer.get_by_role("tab", name=title).evaluate(NUMBER, number)


def take(name: str, theme: str) -> None:
    """Take one picture."""
    cell = ""
    if name == "gemma":
        cell = (
            "from circuit_nb import explore, neuronpedia\n"
            f"explore(neuronpedia.read({str(PUBLISHED)!r}), propose=True)"
        )
    with opened("published.ipynb" if cell else "dallas_austin.ipynb", theme, cell) as reader:
        if name == "panels":
            numbered(reader)
        elif name == "explorer":
            reader.switch("Texas")
            reader.expect(lambda r: r.answer() != "Austin", "Texas is off")
            reader.swap_in(OAKLAND, "California")
            reader.expect(lambda r: r.answer() == "Sacramento", "California is in")
        keep(reader.page, reader, name if cell else f"{name}-{theme}")


def main() -> None:
    """Take all pictures, or those of the names given."""
    names = sys.argv[1:] or [f"{n}-{t}" for n in ("panels", "explorer") for t in ("light", "dark")]
    if not sys.argv[1:] and PUBLISHED.is_file():
        names.append("gemma")
    for name in names:
        kind, _, theme = name.partition("-")
        take(kind, theme or "light")


if __name__ == "__main__":
    main()
