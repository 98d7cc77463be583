from __future__ import annotations

import html
import re
from pathlib import Path
from xml.etree import ElementTree

from made import HOSTILE, hostile_graph, hostile_labels

from circuit_nb import figures


def test_the_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    figure = figures.graph_figure(hostile_graph(), labels=hostile_labels(), kept=1.0)
    path = figures.write_html(figure, tmp_path / "page.html", title=HOSTILE[0], note=HOSTILE[1])
    page = path.read_text(encoding="utf-8")
    assert "Plotly" in page
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", page.split("plotly.js", 1)[0])
    assert "default-src 'none'" in page
    for text in HOSTILE:
        assert text not in page
    heading = re.search(r"<h1>(.*?)</h1>", page)
    assert heading is not None
    assert html.unescape(heading[1]) == HOSTILE[0]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    figures.write_html(figures.probability_figure({"a": 1.0}), path)
    assert path.read_text(encoding="utf-8")[:3] != "old"


def test_a_figure_is_written_as_svg(tmp_path: Path) -> None:
    path = figures.write_svg(figures.probability_figure({"<b>": 1.0}), tmp_path / "bars.svg")
    root = ElementTree.parse(path).getroot()
    assert root.tag.endswith("svg") and "<b>" in "".join(root.itertext())
    again = figures.write_svg(path.read_text(encoding="utf-8").strip(), tmp_path / "again.svg")
    assert again.read_bytes() == path.read_bytes()
