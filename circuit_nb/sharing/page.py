"""`Page`: what a page to share holds, as plain JSON, and the one file that is made of it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from circuit_nb.figures.style import html_text
from circuit_nb.files import shown, write_text
from circuit_nb.panels.page import STYLE
from circuit_nb.strict_json import Reader, parse

FORMAT, VERSION = "circuit-nb page", 2
"""What the JSON calls itself, and the version that is written; older ones are read."""
SCRIPTS = ("data", "picture", "circuit", "lists", "measured", "saving", "page")
"""The script's files, in the order in which they stand in the page."""
_DATA = '<script type="application/json" id="page-data">'
_FOLDER = Path(__file__).parent

Json: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True)
class Page:
    """A page to share: JSON values only, as docs/sharing.md describes them."""

    graph: Json
    """Prompt, tokens, nodes and edges."""
    view: Json
    """What is selected and highlighted when the page opens, and the pictures of the graph."""
    circuit: Json
    """The boxes, laid out for several widths."""
    cards: Json
    """What is known of features, by `LAYER-INDEX`."""
    outcomes: Json | None
    """What the switches do, computed beforehand; None where there was no model."""
    evidence: Json | None
    """What was measured of the boxes; None where nothing was, and in version 1."""
    attention: Json | None
    """Which heads carried edges, as far as it was asked; None as for `evidence`."""
    about: Json
    """Scores, settings, a text for a paper, and what the page holds."""
    picture: str = dataclasses.field(default="", compare=False)
    """The graph as SVG, for browsers that run no script."""

    def to_json(self) -> Json:
        """As JSON values, with format and version."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del values["picture"]
        return {"format": FORMAT, "version": VERSION, **values}

    @classmethod
    def from_json(cls, data: Any) -> Page:
        """Read what `to_json` gave, of this version or an older one.

        Raises:
            ValueError: If it is no such data, damaged, or of a newer version.
        """
        page = Reader(data, "The page")
        if page.get("format") != FORMAT:
            page.fail(f"is not of the format {FORMAT!r}")
        version = page.integer("version", least=1)
        if version > VERSION:
            page.fail(
                f"has version {version}; this version of circuit-nb reads up to {VERSION}. "
                "Upgrade circuit-nb to open it"
            )
        _check(page)
        names = [f.name for f in dataclasses.fields(cls) if f.name != "picture"]
        return cls(**{name: page.get(name) for name in names})

    @property
    def contents(self) -> str:
        """What the page holds, in words, for whoever is about to share it."""
        return str(self.about["contents"])

    def html(self) -> str:
        """The whole page."""
        data = json.dumps(self.to_json(), ensure_ascii=False, separators=(",", ":"))
        style, script = _style(), _script()
        parts = {
            "policy": (
                f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
                "img-src data: blob:; base-uri 'none'; form-action 'none'"
            ),
            "title": html_text(str(self.graph["prompt"])),
            "style": style,
            "picture": self.picture,
            "script": script,
            "data": f"{_DATA}{_inert(data)}</script>",
        }
        page = (_FOLDER / "page.html").read_text(encoding="utf-8")
        # Split first: what is put in may itself hold the name of a place.
        pieces = page.split("{{")
        rest = (piece.split("}}", 1) for piece in pieces[1:])
        return pieces[0] + "".join(parts[name] + after for name, after in rest)

    def write(self, path: str | Path) -> Path:
        """Write the page as one file; an existing file is replaced.

        Returns:
            The path written.

        Raises:
            OSError: If it cannot be written; one sentence says why.
        """
        return write_text(path, self.html())


def read(path: str | Path) -> Page:
    """Read the data of a page, from the page itself or from its JSON alone.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no such page, or one of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No page at {shown(path)}.")
    content = path.read_bytes()
    begin = content.find(_DATA.encode())
    if begin >= 0:
        begin += len(_DATA)
        content = content[begin : content.find(b"</script>", begin)]
    try:
        return Page.from_json(parse(content, "It"))
    except ValueError as error:
        raise ValueError(f"{shown(path)}: {error}") from error


def _check(page: Reader) -> None:
    """Refuse what the page's script could not show."""
    graph = page.child("graph")
    graph.text("prompt")
    count = len(graph.items("nodes"))
    for node in graph.items("nodes"):
        Reader(node, "A node").text("id")
    _check_edges(graph, "edges", count)
    if not page.child("view").items("pictures"):
        page.fail("holds no picture")
    page.child("circuit").items("layouts")
    list(page.entries("cards"))
    page.child("about").text("contents")
    if page.get("outcomes") is not None:
        outcomes = page.child("outcomes")
        outcomes.items("rows")
        for name in ("before", "runs", "tokens"):
            outcomes.child(name)
    if page.get("evidence") is not None:
        measured = page.child("evidence")
        measured.items("sweeps")
        for part in measured.items("parts"):
            Reader(part, "A part").integer("box", below=len(page.child("circuit").items("boxes")))
    if page.get("attention") is not None:
        asked = page.child("attention")
        _check_edges(asked, "edges", count)
        asked.items("looked")
        asked.items("without")


def _check_edges(reader: Reader, key: str, count: int) -> None:
    """Refuse edges, [source, target, …], between other nodes than `count` that are there."""
    for edge in reader.items(key):
        if not isinstance(edge, list) or len(edge) != 3:  # pyright: ignore
            reader.fail("has an edge that is not [source, target, weight]")
        if not all(isinstance(end, int) and 0 <= end < count for end in edge[:2]):
            reader.fail("has an edge between nodes that it does not hold")


def short(value: Any) -> float | None:
    """A number as the page's JSON has it, with six digits; None where it is none, or not finite."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


@cache
def _style() -> str:
    return STYLE + (_FOLDER / "page.css").read_text(encoding="utf-8")


@cache
def _script() -> str:
    files = (_FOLDER / "script" / f"{name}.js" for name in SCRIPTS)
    parts = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return f'\n"use strict";\n(() => {{\n{parts}}})();\n'


def _hash(text: str) -> str:
    """What a content-security policy calls a script or a style sheet."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _inert(data: str) -> str:
    """JSON in which nothing can end the element that it stands in."""
    return data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
