"""Labels and tokens that try to be markup are shown as text, wherever they are shown."""

from __future__ import annotations

from pathlib import Path

from made import HOSTILE, SAY, hostile_graph, hostile_labels
from playwright.sync_api import Page
from reader import Reader, wait_until
from serving import Server, browser_page, run_all, write_notebook

from circuit_nb import figures

CELL = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from made import HOSTILE, OTHER, SAY, TEXAS, card, hostile_graph, hostile_labels
from circuit_nb import explore
from circuit_nb.graph import TargetNode, TokenNode
labels = hostile_labels()
cards = lambda keys: {{k: card(labels.get(k, "x")) for k in keys}}
explorer = explore(hostile_graph(), cards=cards)
explorer.session.kept = 1.0
explorer.session.group(HOSTILE[0], [TEXAS, OTHER])
explorer.session.pin(SAY, TokenNode(2), TargetNode(0))
explorer
"""


def harmless(page: Page) -> None:
    assert page.evaluate("() => window.hacked") is None
    assert (
        page.evaluate(
            """() => [...document.querySelectorAll('.cnb-explorer a, .js-plotly-plot a, svg a')]
                 .filter((a) => /javascript:/i.test(a.outerHTML)).length"""
        )
        == 0
    )
    assert page.locator(".cnb-explorer img, .js-plotly-plot img").count() == 0


def test_in_every_panel(page: Page, lab: Server, folder: Path) -> None:
    write_notebook(folder / "hostile.ipynb", CELL)
    run_all(page, lab.notebook("hostile.ipynb"))
    reader = Reader(page)
    for panel in ("prompt", "graph", "connections", "paths", "subgraph", "feature"):
        shown = reader.panel(panel).inner_text()
        assert any(h[:8] in shown for h in HOSTILE), panel
    for said in ("script", "onerror", "javascript", "onload", "bold"):
        reader.click_node(said)
        page.wait_for_timeout(300)
        harmless(page)
    hover = page.locator(".js-plotly-plot .hoverlayer")

    def pointed() -> bool:
        # Away and there again: a redraw after the click takes away what had been shown.
        page.mouse.move(0, 0)
        reader.point_at("bold")
        return "<" in (hover.text_content() or "")

    wait_until(pointed, told="hover shows the tag as text")
    reader.click_node("feature 7,")
    wait_until(lambda: "feature 7" in reader.panel("feature").inner_text(), told="the card")
    reader.turn_to("Feature")
    reader.panel("feature").locator("input").first.fill(HOSTILE[1])
    page.keyboard.press("Tab")
    wait_until(
        lambda: (
            "onerror" in (reader.panel("connections").locator(".cnb-title").text_content() or "")
            or "onerror" in (reader.panel("subgraph").text_content() or "")
        ),
        told="the edited label",
    )
    harmless(page)
    assert reader.failures() == []


def test_in_the_static_picture_and_the_exported_page(tmp_path: Path) -> None:
    figure = figures.graph_figure(hostile_graph(), labels=hostile_labels(), selected=SAY, kept=1.0)
    exported = figures.write_html(figure, tmp_path / "graph.html", title=HOSTILE[0])
    picture = tmp_path / "picture.html"
    picture.write_text(f"<!DOCTYPE html><meta charset=utf-8>{figures.to_svg(figure)}", "utf-8")
    with browser_page() as page:
        fetched: list[str] = []
        page.on("request", lambda request: fetched.append(request.url))
        for path in (exported, picture):
            page.goto(path.as_uri())
            page.wait_for_timeout(1000)
            harmless(page)
            assert "<script>" in page.locator("body").inner_text()
        assert all(url.startswith(("file:", "data:", "blob:")) for url in fetched)
        assert page.problems == []  # type: ignore[attr-defined]
