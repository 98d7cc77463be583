"""How long the panels take, and how much they send.

    python benchmarks/panels.py [--no-browser] [--repeat 7] [--real FOLDER] [--against CHECKOUT]
                                [--smollm FOLDER]

On the embedded model's Dallas graph, on random graphs of 2,000 and 5,000 features and 20,000 edges,
and, given a folder of graphs in Neuronpedia's JSON, on each of them: the time to open a graph, to
build the figure, the kernel's part of a toggle, a selection and a pin, and, in headless chromium,
the time from a click on a node to the last redraw, from a switch to the last change, and the bytes
the page receives.

With `--smollm`, what is done with a graph of SmolLM2 at default settings (5,000 of some 9,900
features) is timed too; the model and its random transcoders are made in that folder once.

With `--against`, each is measured in another checkout of this library too, turn by turn, so that
what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

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


def strongest(session: Any, count: int) -> list[Any]:
    """The most influential features of a session's graph, which every picture shows."""
    graph = session.graph
    ranked = (-session.measures.influence[graph.blocks.features]).argsort(kind="stable")
    return [graph.nodes[n] for n in ranked[:count].tolist()]


def in_the_kernel(repeat: int, real: Path | None) -> None:
    """Figures, panels and the kernel's part of what the reader does."""
    from made import crowd

    from circuit_nb import attribute, explore, figures, load, neuronpedia

    graphs = {
        "2,000/20,000": lambda: crowd(),
        "5,000/20,000": lambda: crowd(5000, 20_000),
    }
    for path in sorted(real.rglob("*.json")) if real else ():
        graphs[path.stem] = lambda path=path: neuronpedia.read(path).graph
    for name, make in graphs.items():
        graph = make()
        whole = milliseconds(lambda graph=graph: figures.graph_figure(graph), repeat)
        report(f"{name}: graph_figure", whole)
        report(f"{name}: explore", milliseconds(lambda graph=graph: opened(graph), 3))
        first_display(name, lambda graph=graph: opened(graph))
        explorer = opened(graph)
        one_by_one(f"{name}: select, the kernel's part", explorer, "select", repeat)
        one_by_one(f"{name}: pin", explorer, "pin", repeat)

    model = load("atlas")
    graph = attribute(model, DALLAS, progress=False)
    first_display("Dallas", lambda: explore(model, graph))
    report("Dallas: explore", milliseconds(lambda: explore(model, graph), 3))
    explorer = explore(model, graph)

    def flip() -> None:
        session = explorer.session
        session.set_switch("Texas", on=not session.setup.switch(session.rows["Texas"]).on)

    report("Dallas: toggle, the kernel's part", milliseconds(flip, 2 * repeat))
    one_by_one("Dallas: select, the kernel's part", explorer, "select", repeat)


def first_display(name: str, make: Callable[[], Any]) -> None:
    """Time to an explorer and its picture in a warm kernel, and what the page gets for it."""
    import ipywidgets

    make()._repr_mimebundle_()  # warm
    known = set(_live(ipywidgets))
    begin = time.perf_counter()
    explorer = make()
    bundle = explorer._repr_mimebundle_()
    report(f"{name}: first display", [1000 * (time.perf_counter() - begin)])
    ours = plotly = 0
    for key in set(_live(ipywidgets)) - known:
        state = _live(ipywidgets)[key].get_state()
        script = len(state.get("_esm", "")) if "_py2js_addTraces" in state else 0
        plotly += script
        ours += len(json.dumps(state, default=repr)) - script
    ours += sum(len(str(part)) for part in bundle.values())
    report(f"{name}: first display, beyond Plotly's own script", [ours / 1024], "KB")


def _live(ipywidgets: Any) -> dict[str, Any]:
    """The widgets there are, by id, in ipywidgets 7 and 8."""
    module = sys.modules["ipywidgets.widgets.widget"]
    return dict(getattr(module, "_instances", None) or ipywidgets.Widget.widgets)


def on_smollm(folder: Path, repeat: int) -> None:
    """What is done with a graph of a real model at default settings."""
    from smollm import PROMPT, prepare

    from circuit_nb import attribute, load, neuronpedia
    from circuit_nb.analysis import prune

    prepare(folder)
    model = load(folder / "model", folder / "plt", device="cpu")
    graph = attribute(model, PROMPT, progress=False)
    features = len(graph.features)
    print(f"SmolLM2: {features:,} features, {(graph.weights != 0).sum():,} edges", flush=True)
    report("SmolLM2: explore", milliseconds(lambda: opened(graph), 3))
    first_display("SmolLM2", lambda: opened(graph))
    explorer = opened(graph)
    report("SmolLM2: Propose groups", milliseconds(explorer.session.propose, 3))
    one_by_one("SmolLM2: pin", explorer, "pin", repeat)
    fresh = [dataclasses.replace(graph) for _ in range(4)]  # nothing is known of these yet
    report("SmolLM2: prune", milliseconds(lambda: prune(fresh.pop()), 3))
    pruned = prune(graph)
    with tempfile.TemporaryDirectory() as place:
        size = neuronpedia.write(pruned, Path(place) / "graph.json").stat().st_size
    links = int((pruned.weights != 0).sum())
    told = f"SmolLM2: JSON of what is pruned to, {pruned.n_nodes:,} nodes, {links:,} links"
    report(told, [size / 1024], "KB")


def one_by_one(what: str, explorer: Any, deed: str, repeat: int) -> None:
    """Do something with one of the strongest features after the other."""
    picks = iter(strongest(explorer.session, repeat + 1))
    report(what, milliseconds(lambda: getattr(explorer.session, deed)(next(picks)), repeat))


def opened(graph: Any) -> Any:
    """An explorer of a graph for which nothing is known but itself."""
    from circuit_nb import explore

    return explore(graph, cards=lambda keys: {})


BEGIN = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
"""
CELLS = {
    "Dallas": f"""
from circuit_nb import explore, load
explorer = explore(load("atlas"), {DALLAS!r})
explorer
""",
    "2,000/20,000": """
from made import crowd
from circuit_nb import explore
explore(crowd(), cards=lambda keys: {})
""",
}
REAL = """
from circuit_nb import explore, neuronpedia
from circuit_nb.cards import FeatureCard
from circuit_nb.graph import Feature
file = neuronpedia.read({path!r})
labels = dict(file.annotations.labels)
cards = {{
    (node.layer, node.index): FeatureCard(text)
    for node, text in labels.items()
    if isinstance(node, Feature)
}}
explore(file.graph, cards=lambda keys: {{k: cards[k] for k in keys if k in cards}})
"""

WATCH = """() => {
  window.changed = 0;
  const plot = document.querySelector('.cnb-explorer .js-plotly-plot');
  plot.on('plotly_afterplot', () => { window.changed = performance.now(); });
  new MutationObserver(() => { window.changed = performance.now(); })
    .observe(document.querySelector('.cnb-explorer'),
             { subtree: true, childList: true, characterData: true });
  for (const name of ['mouseup', 'click'])
    document.addEventListener(name, () => {
      window.clicked = performance.now();
      window.changed = 0;
    }, { capture: true });
}"""

PLACES = """() => {
  const plot = document.querySelector('.cnb-explorer .js-plotly-plot');
  plot.scrollIntoView({ block: 'center' });
  const box = plot.getBoundingClientRect(), { xaxis, yaxis } = plot._fullLayout;
  const points = plot.calcdata.find((c) => c[0].trace?.name === 'features');
  const sizes = points.map((p) => p.ms ?? 0);
  const order = [...points.keys()].sort((a, b) => sizes[b] - sizes[a]);
  return order.map((i) => [box.x + xaxis._offset + xaxis.d2p(points[i].x),
                           box.y + yaxis._offset + yaxis.d2p(points[i].y)])
    .filter(([x, y]) => x > 0 && x < window.innerWidth && y > 0 && y < window.innerHeight
            && document.elementFromPoint(x, y)?.closest('.js-plotly-plot'));
}"""

REDRAWN = """async () => {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const begin = performance.now();
  while (!window.changed || performance.now() - window.changed < 500) {
    await pause(20);
    if (performance.now() - begin > 10000) return -1;
  }
  return window.changed - window.clicked;
}"""


def in_the_browser(repeat: int, real: Path | None, roots: dict[str, Path]) -> None:
    """From the click to the last change of the page, and the bytes received for it."""
    from serving import Server, write_notebook

    cells = dict(CELLS)
    for path in sorted(real.rglob("*.json")) if real else ():
        cells[path.stem] = REAL.format(path=str(path.resolve()))
    with tempfile.TemporaryDirectory() as folder:
        server = Server("lab", Path(folder))
        try:
            for number, (title, cell) in enumerate(cells.items()):
                for which, root in roots.items():
                    begin = BEGIN.format(root=str(root), tests=str(ROOT / "tests"))
                    name = f"{number}-{len(which)}.ipynb"
                    write_notebook(Path(folder) / name, begin + cell)
                    server.stop_kernels()
                    _one_page(server.notebook(name), f"{title}{which}", repeat)
        finally:
            server.close()


def _one_page(address: str, title: str, repeat: int) -> None:
    from serving import browser_page, run_all

    with browser_page(1366, 768) as page:
        received = [0]
        page.on(
            "websocket",
            lambda ws: ws.on("framereceived", lambda d: received.append(len(d))),
        )
        run_all(page, address)
        page.locator(".cnb-explorer .js-plotly-plot .points path").first.wait_for()
        page.wait_for_timeout(4000)
        report(f"{title}: first display", [sum(received) / 1024], "KB")
        page.evaluate(WATCH)
        times: list[float] = []
        sizes: list[float] = []
        for x, y in page.evaluate(PLACES)[:repeat]:
            page.mouse.move(x, y)
            page.wait_for_timeout(300)
            received.clear()
            page.mouse.click(x, y)
            times.append(page.evaluate(REDRAWN))
            sizes.append(sum(received) / 1024)
        report(f"{title}: click on a node to last redraw", times)
        report(f"{title}: click on a node, received", sizes, "KB")
        switch = page.locator(".cnb-explorer .cnb-box").filter(has_text="Texas").first
        if switch.count():
            times = []
            for _ in range(2 * repeat):  # off, on, off, ...: each is a run of the model
                page.wait_for_timeout(300)
                switch.get_by_role("switch").click()
                times.append(page.evaluate(REDRAWN))
            report(f"{title}: Texas switched, to the last change", times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--no-kernel", action="store_true")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="graphs in Neuronpedia's JSON")
    parser.add_argument("--smollm", type=Path, metavar="FOLDER", help="its model, made there once")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="measured in turn")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(options.root.resolve()))
    roots = {"": ROOT}
    if options.against:
        roots[" (before)"] = options.against.resolve()
    if options.no_kernel:
        pass
    elif options.against:
        for which, root in roots.items():
            print(f"-- in the kernel{which}", flush=True)
            arguments = ["--no-browser", "--root", str(root), "--repeat", str(options.repeat)]
            arguments += ["--real", str(options.real)] if options.real else []
            subprocess.run([sys.executable, __file__, *arguments], check=True)
    else:
        in_the_kernel(options.repeat, options.real)
    if options.smollm:
        on_smollm(options.smollm, options.repeat)
    if not options.no_browser:
        in_the_browser(options.repeat, options.real, roots)


if __name__ == "__main__":
    main()
