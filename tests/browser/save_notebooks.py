"""Run the notebooks in JupyterLab and save them with what a viewer without a kernel can show.

    python tests/browser/save_notebooks.py [NAME ...] [--check]

Each notebook is run once, its live outputs are photographed, and it is written back with text and
PNG alone; what those were made on is said where it is a stand-in. With `--check` nothing is
written: the exit status says whether what is saved is still what the notebooks show.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from base64 import b64encode
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import nbformat  # noqa: E402
from notebook_world import NEEDED, surroundings  # noqa: E402
from packing import smaller  # noqa: E402
from playwright.sync_api import Page  # noqa: E402
from reader import wait_until  # noqa: E402
from saved import OWN, is_live, shown, source_hash, stale, text  # noqa: E402
from serving import Server, browser_page, run_all  # noqa: E402

from circuit_nb.version import __version__  # noqa: E402

NOTEBOOKS = ROOT / "notebooks"
LARGEST = 1_000_000
"""Bytes a notebook may have."""
WIDTH = 1180
"""Of the window, pixels: cells are then about as wide as Colab's, and as GitHub shows them."""

_CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets
  .filter((cell) => cell.model.type === "code")"""
DONE = f"""() => {{
  const models = ({_CELLS})().map((cell) => cell.model);
  return models.every((model) => model.executionCount > 0)
    || models.some((model) => model.outputs.toJSON().some((o) => o.output_type === "error"));
}}"""
WHOLE = """() => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.notebookConfig = { ...notebook.notebookConfig, windowingMode: "none" };
}"""
SETTLED = """() => [...document.querySelectorAll(".cnb-graphpanel .js-plotly-plot")]
  .every((plot) => plot.querySelector(".points path"))"""


def run_in_lab(page: Page, server: Server, name: str) -> nbformat.NotebookNode:
    """Run a notebook in JupyterLab; its live outputs become pictures.

    Raises:
        RuntimeError: If a cell fails.
    """
    run_all(page, server.notebook(name))
    page.evaluate(WHOLE)
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    wait_until(lambda: page.evaluate(DONE), seconds=240, told=f"{name} has run")
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    path = server.folder / name
    wait_until(lambda: _errors_or_done(path), seconds=60, told=f"{name} is saved")
    notebook = nbformat.read(path, as_version=4)
    wait_until(lambda: page.evaluate(SETTLED), seconds=60, told="pictures")
    page.mouse.move(3, 3)
    page.wait_for_timeout(2500)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            _keep(page, number, cell)
    return notebook


def _errors_or_done(path: Path) -> bool:
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    for error in (o for c in cells for o in c.outputs if o.output_type == "error"):
        raise RuntimeError(f"{path.name}: {error.ename}: {error.evalue}")
    return all(cell.execution_count for cell in cells)


def _keep(page: Page, number: int, cell: nbformat.NotebookNode) -> None:
    """Leave what can be shown without a kernel."""
    areas = page.locator(".jp-Notebook .jp-Cell").nth(number).locator(".jp-OutputArea-child")
    for place, output in enumerate(cell.outputs):
        if output in shown(cell) and is_live(output):
            # Plotly's figures say nothing of themselves.
            said = output.data.get("text/plain") or "Figure: " + ", ".join(text(output).split("\n"))
            area = areas.nth(place).locator(".jp-OutputArea-output").first
            area.scroll_into_view_if_needed()
            page.wait_for_timeout(300)
            png = smaller(page, area.screenshot())
            output.metadata = {OWN: {"words": text(output)}, "image/png": {"alt": said}}
            output.data = {"text/plain": said, "image/png": b64encode(png).decode() + "\n"}
    cell.outputs = shown(cell)
    cell.metadata.pop("execution", None)


def _mark(notebook: nbformat.NotebookNode, told: str) -> None:
    """Say over every output that it was made on a stand-in."""
    first = True
    for cell in notebook.cells:
        if cell.cell_type != "code" or not cell.outputs:
            continue
        words = f"The outputs saved here were made on a stand-in: {told}." if first else ""
        mark = words or "Made on the stand-in."
        first = False
        said = nbformat.v4.new_output(
            "display_data",
            data={"text/plain": mark, "text/markdown": f"*{mark}*"},
            metadata={OWN: {"mark": True}},
        )
        cell.outputs.insert(0, said)


def made(name: str) -> nbformat.NotebookNode:
    """A notebook as it is saved."""
    with tempfile.TemporaryDirectory() as place, surroundings(name) as variables:
        folder = Path(place)
        shutil.copy(NOTEBOOKS / f"{name}.ipynb", folder)
        original = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        server = Server("lab", folder, variables=variables)
        try:
            with browser_page(WIDTH, 6000) as page:
                notebook = run_in_lab(page, server, f"{name}.ipynb")
        finally:
            server.close()
    if name in NEEDED:
        _mark(notebook, NEEDED[name])
    kept = {"source": source_hash(notebook), "version": __version__}
    notebook.metadata = {**original.metadata, OWN: kept}
    return notebook


def main() -> int:
    """Save or check the notebooks; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    names = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    parser.add_argument("names", nargs="*", metavar="NAME", default=names)
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    options = parser.parse_args()
    wrong = 0
    for name in options.names:
        path = NOTEBOOKS / f"{name}.ipynb"
        kept = nbformat.read(path, as_version=4)
        problems = stale(kept) if options.check else []
        if not problems:
            notebook = made(name)
            content = nbformat.writes(notebook) + "\n"
            problems = stale(kept, notebook) if options.check else []
            if len(content.encode()) >= LARGEST:
                problems.append(f"it has {len(content.encode())} bytes, over {LARGEST}")
            elif not options.check:
                path.write_text(content, encoding="utf-8")
        print(f"{name}: {'; '.join(problems) or f'{path.stat().st_size // 1000} kB'}")
        wrong += bool(problems)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
