"""Panels that take turns in one place, with tabs to choose by."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets

from circuit_nb.figures.style import html_text
from circuit_nb.panels.base import Panel
from circuit_nb.panels.page import Clickable
from circuit_nb.panels.session import Session


def tabs_html(titles: Mapping[str, str], opened: str) -> str:
    """A row of tabs.

    Args:
        titles: Of each tab, by key.
        opened: The key of the one that is open.
    """
    tabs = "".join(
        f'<span role="tab" tabindex="{0 if name == opened else -1}" data-key="{name}" '
        f'aria-selected="{str(name == opened).lower()}">{html_text(title)}</span>'
        for name, title in titles.items()
    )
    return f'<div class="cnb-tabs" role="tablist">{tabs}</div>'


class Turns(ipywidgets.VBox):
    """Tabs, and the panel that `session.tab` names.

    Args:
        session: Says which panel is open.
        panels: (title, panel) by name.
    """

    def __init__(self, session: Session, panels: Mapping[str, tuple[str, Panel]]) -> None:
        self.session, self.panels = session, panels
        self.tabs = Clickable(lambda key: session.set_trait("tab", key))
        super().__init__([self.tabs, *(panel for _, panel in panels.values())])
        self.add_class("cnb-turns")
        session.observe(self._show, "tab")
        self._show()

    def _show(self, _: object = None) -> None:
        opened = self.session.tab if self.session.tab in self.panels else next(iter(self.panels))
        titles = {name: title for name, (title, _) in self.panels.items()}
        self.tabs.html = tabs_html(titles, opened)
        for name, (_, panel) in self.panels.items():
            panel.layout.display = None if name == opened else "none"

    def close(self) -> None:
        """Stop following the session, and close the widgets."""
        self.session.unobserve(self._show, "tab")
        super().close()
