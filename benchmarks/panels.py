"""How long the panels take, and how much they send.

    python benchmarks/panels.py [--no-browser] [--repeat 7]

Measures, on the embedded model's Dallas graph and on a random graph of 2,000 features and 20,000
edges: the time to build figures and panels, the kernel's part of a toggle and of a selection, and,
in headless chromium, the time from the click to the last redraw and the bytes the page receives.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

DALLAS = "Fact: the capital of the state containing Dallas is"


def milliseconds(action: Callable[[], object], repeat: int) -> list[float]:
    """Time an action several times, after once to warm up."""
    action()
    times: list[float] = []
    for _ in range(repeat):
        begin = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - begin))
    return times


def report(what: str, values: list[float], unit: str = "ms") -> None:
    """One line of the table."""
    print(f"{what:<58} {statistics.median(values):>9,.0f} {unit}   (most {max(values):,.0f})")


def in_the_kernel(repeat: int) -> None:
    """Figures, panels and the kernel's part of what the reader does."""
    from made import crowd

    from circuit_nb import attribute, explore, figures, load
    from circuit_nb.figures.graph import background_traces, node_traces, selection_traces
    from circuit_nb.figures.view import GraphView, Measures
    from circuit_nb.panels import GraphPanel, Session

    large = crowd()
    measures = Measures(large)
    report("2,000/20,000: analysis, once", milliseconds(lambda: Measures(large).flow, repeat))

    def traces() -> None:
        view = GraphView(measures, 1.0)
        background_traces(view)
        node_traces(view)
        selection_traces(view, None)

    report("2,000/20,000: traces", milliseconds(traces, repeat))
    whole = milliseconds(lambda: figures.graph_figure(large, kept=1.0), repeat)
    report("2,000/20,000: graph_figure", whole)
    session = Session(large, cards=lambda keys: {})
    session.kept = 1.0
    report("2,000/20,000: GraphPanel", milliseconds(lambda: GraphPanel(session), 3))
    GraphPanel(session)
    nodes = iter(large.nodes[: repeat + 1])
    report("2,000/20,000: select a node", milliseconds(lambda: session.select(next(nodes)), repeat))

    model = load("atlas")
    graph = attribute(model, DALLAS, progress=False)
    report("Dallas: explore", milliseconds(lambda: explore(model, graph), 3))
    explorer = explore(model, graph)
    toggle = explorer.switches.switches["Texas"]

    def flip() -> None:
        toggle.value = not toggle.value

    report("Dallas: toggle, the kernel's part", milliseconds(flip, 2 * repeat))
    picks = iter(list(graph.nodes[: repeat + 1]))
    report(
        "Dallas: select, the kernel's part",
        milliseconds(lambda: explorer.session.select(next(picks)), repeat),
    )


CELLS = {
    "dallas": f"""
from circuit_nb import explore, load
explorer = explore(load("atlas"), {DALLAS!r})
explorer
""",
    "crowd": f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from made import crowd
from circuit_nb.panels import Explorer, Session
session = Session(crowd(), cards=lambda keys: {{}})
session.kept = 1.0
Explorer(session)
""",
}

WATCH = """() => {
  window.changed = 0;
  const plot = document.querySelector('.cnb-explorer .js-plotly-plot');
  plot.on('plotly_afterplot', () => { window.changed = performance.now(); });
  new MutationObserver(() => { window.changed = performance.now(); })
    .observe(document.querySelector('.cnb-explorer'),
             { subtree: true, childList: true, characterData: true });
}"""

CLICK = """async ([selector, index]) => {
  window.changed = 0;
  const begin = performance.now();
  document.querySelectorAll(selector)[index].click();
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  while (!window.changed || performance.now() - window.changed < 600) {
    await pause(20);
    if (performance.now() - begin > 20000) return -1;
  }
  return window.changed - begin;
}"""


def in_the_browser(repeat: int) -> None:
    """From the click to the last change of the page, and the bytes received for it."""
    from reader import Reader
    from serving import Server, browser_page, run_all, write_notebook

    with tempfile.TemporaryDirectory() as folder:
        for name, cell in CELLS.items():
            write_notebook(Path(folder) / f"{name}.ipynb", cell)
        server = Server("lab", Path(folder))
        try:
            for name, title in (("dallas", "Dallas"), ("crowd", "2,000/20,000")):
                with browser_page(1500, 1400) as page:
                    received = [0]

                    def count(payload: str | bytes, received: list[int] = received) -> None:
                        received[0] += len(payload)

                    page.on("websocket", lambda ws, f=count: ws.on("framereceived", f))
                    server.stop_kernels()
                    run_all(page, server.notebook(f"{name}.ipynb"))
                    Reader(page)
                    page.wait_for_timeout(3000)
                    report(f"{title}: first display", [received[0] / 1024], "KB")
                    page.evaluate(WATCH)
                    _click_through(page, title, received, repeat)
        finally:
            server.close()


def _click_through(page: object, title: str, received: list[int], repeat: int) -> None:
    deeds = {"select a token": (".cnb-promptpanel [data-key]", range(2, 2 + repeat))}
    if title == "Dallas":
        deeds["toggle a switch"] = (".cnb-row button:first-child", [1] * repeat)
    for deed, (selector, places) in deeds.items():
        times: list[float] = []
        sizes: list[float] = []
        for place in places:
            before = received[0]
            times.append(page.evaluate(CLICK, [selector, place]))  # type: ignore[attr-defined]
            sizes.append((received[0] - before) / 1024)
        report(f"{title}: {deed}, click to last redraw", times)
        report(f"{title}: {deed}, received", sizes, "KB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    in_the_kernel(options.repeat)
    if not options.no_browser:
        in_the_browser(options.repeat)


if __name__ == "__main__":
    main()
