"""What a notebook keeps of its outputs, and whether that is still what it shows.

Widgets and Plotly's figures are nothing where no kernel and no JavaScript run. They are kept as
PNG, which every viewer shows, and the words that stood on the picture are kept beside it, so that
another run can be compared with it.
"""

from __future__ import annotations

import difflib
import hashlib
import html
import math
import re
from typing import Any

import nbformat

from circuit_nb.version import __version__

OWN = "circuit_nb"
"""Key of what is kept in metadata."""
WIDGET = "application/vnd.jupyter.widget-view+json"
PLOT = "application/vnd.plotly.v1+json"
LIVE = (
    WIDGET,
    PLOT,
    "image/svg+xml",
)
"""What is shown as a picture: live where it can be, and not everywhere shown where it cannot."""
ALIKE = 0.98
"""Share of an output's words that must be the same; numbers may differ in their last digits."""
_PIECES = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")


def source_hash(notebook: nbformat.NotebookNode) -> str:
    """A hash of all the code of a notebook."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """All outputs of a notebook."""
    return [out for cell in notebook.cells for out in cell.get("outputs", [])]


def is_live(output: nbformat.NotebookNode) -> bool:
    """Whether an output needs a kernel or JavaScript to be seen as it is."""
    return any(kind in output.get("data", {}) for kind in LIVE)


def shown(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The outputs of a cell that are kept: progress bars and marks are not."""
    return [o for o in cell.get("outputs", []) if not _is_passing(o)]


def _is_passing(output: nbformat.NotebookNode) -> bool:
    if output.output_type == "stream":
        return output.name == "stderr"
    if output.get("metadata", {}).get(OWN, {}).get("mark"):
        return True
    data = output.get("data", {})
    # What has no words besides its markup are scripts, which older releases of Plotly load first.
    if set(data) == {"text/html"}:
        return True
    # Widgets of other libraries that bring no picture along are progress bars.
    return WIDGET in data and "image/svg+xml" not in data


def text(output: nbformat.NotebookNode) -> str:
    """The words of an output: printed, or on its picture."""
    if output.output_type == "stream":
        return str(output.text)
    data, kept = output.get("data", {}), output.get("metadata", {}).get(OWN, {})
    if "words" in kept:
        return str(kept["words"])
    if "image/svg+xml" in data:
        found = re.findall(r"<text[^>]*>([^<]*)</text>", data["image/svg+xml"])
        return "\n".join(map(html.unescape, found))
    if PLOT in data:
        return "\n".join(_on_plot(data[PLOT]))
    return str(data.get("text/plain", ""))


def _on_plot(figure: dict[str, Any]) -> list[str]:
    """The words on a figure of Plotly's: titles of axes, names at their ticks, names of traces."""
    axes = [v for k, v in figure["layout"].items() if k in ("xaxis", "yaxis")]
    found = [axis.get("title", {}).get("text", "") for axis in axes]
    found += [str(tick) for axis in axes for tick in axis.get("ticktext", ())]
    found += [trace.get("name", "") for trace in figure["data"]]
    return [html.unescape(words) for words in found if words]


def _texts(cell: nbformat.NotebookNode) -> list[str]:
    """The words of each output; what was printed is one, however it arrived."""
    found: list[str] = []
    printed = False
    for output in shown(cell):
        if output.output_type == "stream" and printed:
            found[-1] += text(output)
        else:
            found.append(text(output))
        printed = output.output_type == "stream"
    return found


def alike(one: str, other: str) -> float:
    """Share of the words and numbers that two texts have in common, in the same order."""
    a, b = _PIECES.findall(one), _PIECES.findall(other)
    masked = [["#" if piece[0].isdigit() else piece for piece in side] for side in (a, b)]
    same = 0
    for block in difflib.SequenceMatcher(None, *masked, autojunk=False).get_matching_blocks():
        for k in range(block.size):
            same += _close(a[block.a + k], b[block.b + k])
    return same / max(len(a), len(b), 1) if a or b else 1.0


def _close(one: str, other: str) -> bool:
    """Whether two pieces are the same, or numbers that differ by rounding."""
    if not one[0].isdigit():
        return one == other
    digits = min(len(number.partition(".")[2]) for number in (one, other))
    step = 10.0**-digits if "." in one + other else 0.0
    return math.isclose(float(one), float(other), rel_tol=0.02, abs_tol=1.5 * step)


def stale(
    kept: nbformat.NotebookNode, run: nbformat.NotebookNode | None = None, least: float = ALIKE
) -> list[str]:
    """What is wrong with the outputs a notebook was saved with; nothing if they are as they were.

    Args:
        kept: The notebook as it was saved.
        run: The same after a run; without it only what was recorded is compared.
        least: Share of each output's words that must be the same.
    """
    record: dict[str, Any] = kept.metadata.get(OWN, {})
    if record.get("source") != source_hash(kept):
        return ["its code was changed after it was saved"]
    found: list[str] = []
    if record.get("version") != __version__:
        found.append(f"it was saved with version {record.get('version')}, this is {__version__}")
    for cell, again in zip(kept.cells, run.cells, strict=True) if run else ():
        old, new = _texts(cell), _texts(again)
        if len(old) != len(new):
            found.append(f"cell {cell.id!r} was saved with {len(old)} outputs and gives {len(new)}")
            continue
        for before, after in zip(old, new, strict=True):
            share = alike(before, after)
            if share < least:
                found.append(
                    f"cell {cell.id!r}: {share:.0%} of the words are the same\n"
                    f"saved: {before[:400]}\nnow:   {after[:400]}"
                )
    return found
