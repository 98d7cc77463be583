"""What a page shows, measured on it: places, contrast, what is cut, what moves."""

from __future__ import annotations

import itertools
from typing import Any

from playwright.sync_api import Page

MEASURE = """() => {
  const plot = document.querySelector('.js-plotly-plot');
  const box = ({ left, top, right, bottom }) => [left, top, right, bottom];
  const all = (selector) => [...plot.querySelectorAll(selector)]
    .map((e) => [e.textContent, ...box(e.getBoundingClientRect())]);
  return {
    plot: box(plot.getBoundingClientRect()),
    page: [document.documentElement.clientWidth, document.documentElement.scrollWidth],
    nodes: all('.points path'),
    words: all('.textpoint text, .shape-label text, .cnb-over text'),
    ticks: all('.xtick text'),
    drawn: plot._fullData.filter((t) => t.customdata?.length).map((t) => t.x.length),
  };
}"""

CONTRAST = """(panel) => {
  const pen = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = (text) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = text;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const light = (c) => {
    const [r, g, b] = c.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92
                                                        : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const explorer = document.querySelector(panel || '.cnb-explorer');
  const found = [];
  const walk = document.createTreeWalker(explorer, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), own = walk.currentNode.parentElement;
    if (!text || !own.getClientRects().length || own.closest('style, title, option, select'))
      continue;
    if (own.closest(':disabled, .cnb-said')) continue;
    const style = getComputedStyle(own), inSvg = own.closest('svg');
    if (style.visibility === 'hidden') continue;
    let ink = rgba(inSvg ? style.fill : style.color), paper = [255, 255, 255];
    const chain = [];
    for (let e = own; e; e = e.parentElement) chain.push(e);
    for (const e of chain.reverse()) {
      const seen = getComputedStyle(e);
      paper = over(rgba(seen.backgroundColor), paper);
      const sheet = /gradient\\((rgb[^)]*\\))/.exec(seen.backgroundImage);
      if (sheet) paper = over(rgba(sheet[1]), paper);
      const before = getComputedStyle(e, '::before');
      if (before.content === '""' && before.inset === '0px') {
        const tint = rgba(before.backgroundColor);
        tint[3] *= before.opacity;
        paper = over(tint, paper);
      }
      if (seen.opacity < 1) ink[3] *= seen.opacity;
    }
    const shown = over(ink, paper), [a, b] = [light(shown), light(paper)];
    found.push([text.slice(0, 40), (Math.max(a, b) + .05) / (Math.min(a, b) + .05),
                parseFloat(style.fontSize), own.getAttribute('class') || own.tagName]);
  }
  return found;
}"""

LOST = """() => {
  const explorer = document.querySelector('.cnb-explorer');
  const right = explorer.getBoundingClientRect().right + 1;
  const scrolls = (e) => {
    for (let p = e.parentElement; p && p !== explorer.parentElement; p = p.parentElement) {
      const kind = getComputedStyle(p).overflowX;
      if ((kind === 'auto' || kind === 'scroll') && p.scrollWidth > p.clientWidth) return true;
    }
    return false;
  };
  return [...explorer.querySelectorAll('button, input, select, [tabindex], [data-key]')]
    .filter((e) => e.getClientRects().length && !scrolls(e)
                   && !e.closest('.js-plotly-plot, .jupyter-widget-slider'))
    .filter((e) => e.getBoundingClientRect().right > right
                   || e.getBoundingClientRect().left < 0)
    .map((e) => (e.textContent || e.title || e.className).trim().slice(0, 40));
}"""

MOVING = """() => document.getAnimations()
  .filter((a) => a.playState === 'running' && a.effect?.target?.closest('.cnb-explorer'))
  .map((a) => a.effect.target.className)"""


def seen(page: Page) -> dict[str, Any]:
    """Where the picture, its nodes, words and ticks are."""
    return page.evaluate(MEASURE)


def assert_clear(page: Page, told: str, words: int = 10) -> None:
    """Everything is inside the picture, and no word on another."""
    found = seen(page)
    left, top, right, bottom = found["plot"]
    assert len(found["nodes"]) == sum(found["drawn"]) > 50, told
    for what in ("nodes", "words", "ticks"):
        for text, *box in found[what]:
            assert box[0] >= left - 1 and box[2] <= right + 1, (told, what, text)
            assert box[1] >= top - 1 and box[3] <= bottom + 1, (told, what, text)
    assert len(found["words"]) >= words, told
    for (one, *a), (other, *b) in itertools.combinations(found["words"] + found["ticks"], 2):
        # Two lines of one word touch; fonts leave more room above and below than letters take.
        wide = min(a[2], b[2]) - max(a[0], b[0])
        high = min(a[3], b[3]) - max(a[1], b[1])
        assert wide <= 1 or high <= 3, (told, one, other, wide, high)
