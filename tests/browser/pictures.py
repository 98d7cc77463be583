"""Pictures for the README: the explorer in light and dark JupyterLab.

    python tests/browser/pictures.py [--panels]

Writes `notebooks/images/explorer-light.png` and `-dark.png`; with `--panels` also one picture of
each panel into `build/browser`, to look at.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from reader import Reader
from serving import Server, browser_page, run_all

ROOT = Path(__file__).parents[2]
IMAGES, PANELS = ROOT / "notebooks" / "images", ROOT / "build" / "browser"
OAKLAND = "Fact: the capital of the state containing Oakland is"
NAMES = ("prompt", "graph", "connections", "paths", "subgraph", "feature", "switches")


def picture(theme: str, panels: bool) -> None:
    """Take the pictures in one theme."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "notebooks" / "dallas_austin.ipynb", folder)
        server = Server("lab", Path(folder), dark=theme == "dark")
        try:
            with browser_page(1280, 2000) as page:
                run_all(page, server.notebook("dallas_austin.ipynb"))
                reader = Reader(page)
                page.evaluate(
                    "() => window.jupyterapp.commands.execute('application:toggle-left-area')"
                )
                reader.toggle("Texas")
                reader.expect(lambda r: r.answer() != "Austin", "Texas is off")
                reader.swap_in(OAKLAND, "California")
                reader.expect(lambda r: r.answer() == "Sacramento", "California is in")
                page.mouse.move(5, 5)
                page.wait_for_timeout(1500)
                IMAGES.mkdir(parents=True, exist_ok=True)
                reader.explorer.screenshot(path=IMAGES / f"explorer-{theme}.png")
                for name in NAMES if panels else ():
                    PANELS.mkdir(parents=True, exist_ok=True)
                    reader.panel(name).screenshot(path=PANELS / f"{name}-{theme}.png")
        finally:
            server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--panels", action="store_true")
    options = parser.parse_args()
    for theme in ("light", "dark"):
        picture(theme, options.panels)


if __name__ == "__main__":
    sys.exit(main())
