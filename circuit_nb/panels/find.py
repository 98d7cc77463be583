"""The search box: any node, and any feature of the transcoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from circuit_nb.figures.style import html_text, shorten
from circuit_nb.graph import ErrorNode, Feature, TokenNode
from circuit_nb.panels.base import Drawing, Panel, lines
from circuit_nb.panels.finding import Found, find
from circuit_nb.panels.page import KEYS, STYLE
from circuit_nb.panels.session import Session

HINT = "find a node or feature: by label, token, what it promotes, a text, or layer/index"

_SCRIPT = """
let made = 0;
function render({ model, el }) {
  const name = "cnb-found-" + (made += 1);
  const box = document.createElement("div");
  box.className = "cnb cnb-find";
  box.innerHTML = `<input type="search" role="combobox" aria-autocomplete="list"
    aria-expanded="false" aria-controls="${name}" autocomplete="off" spellcheck="false">
    <div class="cnb-found" role="listbox" id="${name}" hidden></div>`;
  el.append(box);
  const [input, list] = [box.querySelector("input"), box.querySelector(".cnb-found")];
  input.ariaLabel = input.title = model.get("hint");
  input.placeholder = model.get("hint").split(":")[0];
  let at = -1, waiting = 0;
  const items = () => [...list.querySelectorAll("[data-key]")];
  const mark = (place) => {
    at = place;
    items().forEach((item, i) => {
      item.id = name + "-" + i;
      item.setAttribute("aria-selected", String(i === at));
      if (i === at) item.scrollIntoView({ block: "nearest" });
    });
    if (at >= 0) input.setAttribute("aria-activedescendant", name + "-" + at);
    else input.removeAttribute("aria-activedescendant");
  };
  const open = (on) => {
    list.hidden = !on;
    input.setAttribute("aria-expanded", String(on));
  };
  const draw = () => {
    list.innerHTML = model.get("html");
    open(Boolean(input.value.trim()) && Boolean(model.get("html")));
    mark(items().length ? 0 : -1);
  };
  const asked = (query) => {
    model.set("query", query);
    model.save_changes();
  };
  // What is asked again after this is a change, and so is what comes back.
  const leave = () => {
    open(false);
    asked("");
  };
  const choose = (item) => {
    if (!item) return;
    model.send({ key: item.dataset.key });
    input.value = "";
    leave();
  };
  const ask = () => (model.get("query") === input.value ? draw() : asked(input.value));
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(ask, 120);
  });
  input.addEventListener("focus", () => { if (input.value.trim()) ask(); });
  input.addEventListener("blur", () => setTimeout(() => open(false), 150));
  input.addEventListener("keydown", (event) => {
    const count = items().length;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (count) mark((at + (event.key === "ArrowDown" ? 1 : count - 1)) % count);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (!list.hidden) choose(items()[at]);
    } else if (event.key === "Escape") {
      leave();
    }
  });
  list.addEventListener("mousedown", (event) => {
    const item = event.target.closest("[data-key]");
    if (item) {
      event.preventDefault();
      choose(item);
    }
  });
  model.on("change:html", draw);
  return () => {
    model.off("change:html", draw);
    clearTimeout(waiting);
  };
}
export default { render };
"""


class Finder(anywidget.AnyWidget):
    """A text field with a list of what fits; foreign text in the list must be escaped.

    Args:
        on_choice: Called with the key of what is chosen.
    """

    _esm = KEYS + _SCRIPT
    _css = STYLE
    hint = traitlets.Unicode(HINT).tag(sync=True)
    """What it is for; up to a colon, the empty field says it."""
    query = traitlets.Unicode("").tag(sync=True)
    """What is typed."""
    html = traitlets.Unicode("").tag(sync=True)
    """The list."""

    def __init__(self, on_choice: Callable[[str], None]) -> None:
        super().__init__()
        self.add_class("cnb-html")
        self._on_choice = on_choice
        self.on_msg(self._receive)

    def _receive(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and isinstance(content.get("key"), str):
            self._on_choice(content["key"])

    def choose(self, key: str) -> None:
        """Do what choosing the entry of that key does.

        Raises:
            ValueError: If nothing of that key is listed.
        """
        if f'data-key="{key}"' not in self.html:
            raise ValueError(f"Nothing of the key {key!r} is listed.")
        self._on_choice(key)


class FindPanel(Panel):
    """Finds nodes by label, token, what they promote, texts or number, and selects them.

    A feature that is not active on the prompt is added to the switches, at the token that is
    selected, else at the last one, as active as it usually is.

    Args:
        session: What is shown.
    """

    fills = False

    def __init__(self, session: Session) -> None:
        super().__init__(session, "Find")
        self.finder = Finder(self.guard(self._choose))
        self.found: list[Found] = []
        """What fits what is typed."""
        self.body.children = [self.finder]
        self.finder.observe(self.guard(lambda c: self._look(c["new"])), "query")

    def _look(self, text: str) -> None:
        self.found = find(self.session, text)
        rows = "".join(self._row(f) for f in self.found)
        nothing = '<div class="cnb-empty">Nothing fits.</div>'
        self.finder.html = rows or (nothing if text.strip() else "")

    def _row(self, found: Found) -> str:
        why = f" · {html_text(found.why)}" if found.why else ""
        return (
            f'<div role="option" data-key="{found.key}">'
            f"<b>{html_text(shorten(found.name, 48))}</b> "
            f'<span class="cnb-faint">{html_text(found.place)}{why}</span></div>'
        )

    def _choose(self, key: str) -> None:
        found = next(f for f in self.found if f.key == key)
        if found.node is not None:
            self.session.select(found.node)
            return
        selected = self.session.selected
        placed = isinstance(selected, Feature | ErrorNode | TokenNode) and selected.position
        last = len(self.session.graph.tokens) - 1
        self.session.add_feature(*found.feature, int(placed or last))
        self.session.tab = "switches"

    def draw(self) -> Drawing:
        """Nothing: without a kernel nothing can be searched."""
        return lines([])
