"""What every panel has: a heading, a place for errors, and a picture for where nothing runs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import ipywidgets

from circuit_nb.figures.style import TITLE, html_text
from circuit_nb.figures.svg import frame
from circuit_nb.panels.lens import Lens
from circuit_nb.panels.page import STYLE
from circuit_nb.panels.session import Session

Drawing = tuple[str, tuple[float, float]]
"""SVG elements, and their width and height in pixels."""


class Frame(ipywidgets.VBox):
    """A heading, a body, and a place for the errors of what the reader does.

    Args:
        title: The heading.
        lock: Held while something is done.
    """

    fills = True
    """Whether it has a button, beside its heading, by which it fills the window."""
    _ipython_display_ = None  # ipywidgets 7 would show the widget alone, without its picture

    def __init__(self, title: str, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self.heading = ipywidgets.HTML(f'<div class="cnb cnb-title">{html_text(title)}</div>')
        self.failure = ipywidgets.HTML("")
        self.body = ipywidgets.VBox([])
        style = ipywidgets.HTML(f"<style>{STYLE}</style>", layout={"display": "none"})
        spread = {"justify_content": "space-between", "align_items": "center"}
        self.top = ipywidgets.HBox([self.heading], layout=spread)
        if self.fills:
            self.top.children = [self.heading, Lens(zooms=False)]
        super().__init__([style, self.top, self.body, self.failure])
        self.layout.padding = "4px 8px"
        self.add_class("cnb-panel")
        self.add_class(f"cnb-{type(self).__name__.lower()}")
        self._depth = 0

    def guard(self, action: Callable[..., None]) -> Callable[..., None]:
        """The action, made to show its errors under the panel instead of losing them."""

        def guarded(*arguments: Any) -> None:
            with self._lock:
                self._guarded(action, *arguments)

        return guarded

    def _guarded(self, action: Callable[..., None], *arguments: Any) -> None:
        # What one action sets off must not wipe out the error of another part of it.
        if self._depth == 0:
            self._tell("", "")
        self._depth += 1
        try:
            action(*arguments)
        except KeyboardInterrupt as error:
            self._tell(f"Interrupted; nothing was changed. {error}", "")
        except Exception as error:
            self._tell(_in_words(error), traceback.format_exc())
        finally:
            self._depth -= 1

    def _tell(self, words: str, details: str) -> None:
        trace = "\n".join(html_text(line) for line in details.splitlines())
        folded = f"<details><summary>details</summary><pre>{trace}</pre></details>"
        self.failure.value = (
            f'<div class="cnb cnb-failure" role="alert">{html_text(words)}'
            f"{folded if details else ''}</div>"
            if words
            else ""
        )

    def prepare(self) -> None:
        """Make ready for being displayed."""

    def summary(self) -> str:
        """What is shown, in plain text."""
        raise NotImplementedError

    def draw(self) -> Drawing:
        """The panel as SVG elements, for where no kernel runs."""
        raise NotImplementedError

    def picture(self) -> str:
        """The panel as one `<svg>` element, as it is now."""
        return frame(*self.draw())

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """The live widget, and a picture for GitHub, nbviewer and other places without a kernel."""
        enable_in_colab()
        self.prepare()
        return {
            "text/plain": self.summary(),
            "image/svg+xml": self.picture(),
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.model_id,
            },
        }


class Panel(Frame):
    """A part of the explorer. It shows a session and passes the reader's wishes to it.

    Args:
        session: What is shown; other panels may share it.
        title: The heading.
    """

    def __init__(self, session: Session, title: str) -> None:
        self.session = session
        super().__init__(title, session.lock)
        self._observed: list[tuple[Callable[[Any], None], list[str]]] = []

    def watch(self, redraw: Callable[[], None], *names: str, at_once: bool = False) -> None:
        """Draw now, and whenever one of the session's traits changes.

        Args:
            redraw: What draws.
            *names: The traits.
            at_once: Do not wait until everything that changes together has changed.
        """

        def whole() -> None:
            try:
                redraw()
            except KeyboardInterrupt:  # what is shown must not stay behind what is so
                redraw()

        guarded = self.guard(whole)

        def changed(_: Any) -> None:
            if at_once:
                guarded()
            else:
                self.session.tell(guarded)

        self.session.observe(changed, list(names))
        self._observed.append((changed, list(names)))
        guarded()

    def close(self) -> None:
        """Stop following the session, and close the widgets."""
        for changed, names in self._observed:
            self.session.unobserve(changed, names)
        self._observed = []
        super().close()

    def summary(self) -> str:
        """The graph in a line."""
        return f"{type(self).__name__}({self.session.graph!r})"


def _in_words(error: Exception) -> str:
    """What went wrong in one or two sentences."""
    words = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return words or type(error).__name__


def enable_in_colab() -> None:
    """Colab shows widgets that are not its own only after being asked to; elsewhere do nothing."""
    try:
        from google.colab import output  # pyright: ignore
    except ImportError:
        return
    output.enable_custom_widget_manager()  # pyright: ignore


def tooltip(widget: ipywidgets.Widget, text: str) -> None:
    """Explain a control in plain words; ipywidgets 7 and 8 name the property differently."""
    for name in ("tooltip", "description_tooltip"):
        if widget.has_trait(name):
            setattr(widget, name, text)
            return


def stack(drawings: Iterable[tuple[str, Drawing]], *, gap: float = 14) -> Drawing:
    """Titled drawings one under the other."""
    parts: list[str] = []
    y = widest = 0.0
    for title, (inner, (width, height)) in drawings:
        head = 24.0 if title else 0.0
        if title:
            parts.append(
                f'<text x="4" y="{y + 16:g}" font-size="{TITLE}" font-weight="600">'
                f"{html_text(title)}</text>"
            )
        parts.append(f'<g transform="translate(0 {y + head:g})">{inner}</g>')
        y += head + height + gap
        widest = max(widest, width)
    return "".join(parts), (widest, y)


def lines(texts: Iterable[str], *, width: float = 520) -> Drawing:
    """Plain lines of text as a drawing."""
    rows = list(texts)
    inner = "".join(
        f'<text x="4" y="{16 + 18 * i}">{html_text(row)}</text>' for i, row in enumerate(rows)
    )
    return inner, (width, 18.0 * len(rows) + 8)
