"""How large a page to share is, how long it takes to make, and to open in a browser.

    python benchmarks/shared_page.py [GRAPH.json ...]

Pages: the embedded model's Dallas prompt with its switches, and published graph files given.
Opening is from the address to the first drawn node, from a file, with the network cut off; of five
times the middle one and the range.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))

from serving import browser_page

from circuit_nb import atlas, explore, load
from circuit_nb.panels.explorer import Explorer

TIMES = 5


def main() -> None:
    """Print a line for every page."""
    with tempfile.TemporaryDirectory() as folder:
        made = [_made(explore(load("atlas"), atlas.DALLAS), Path(folder) / "embedded.html")]
        made += [_made(explore(name), Path(folder) / Path(name).name) for name in sys.argv[1:]]
        print("| page | size | made in | opened in | range |")
        print("|---|---|---|---|---|")
        for path, seconds in made:
            opened = _opened(path)
            print(
                f"| {path.stem} | {path.stat().st_size / 1e6:.2f} MB | {seconds:.1f} s "
                f"| {statistics.median(opened):.2f} s | {min(opened):.2f}–{max(opened):.2f} |"
            )


def _made(explorer: Explorer, path: Path) -> tuple[Path, float]:
    start = time.perf_counter()
    written = explorer.export(path.with_suffix(".html"), progress=False)
    return written, time.perf_counter() - start


def _opened(path: Path) -> list[float]:
    found: list[float] = []
    with browser_page(1366, 768) as page:
        page.context.set_offline(True)
        for _ in range(TIMES):
            page.goto("about:blank")
            start = time.perf_counter()
            page.goto(path.as_uri())
            page.locator("#graph .node").first.wait_for()
            found.append(time.perf_counter() - start)
    return found


if __name__ == "__main__":
    main()
