"""The panel Set: prompts by features, where one departs from the average, and its explorer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import ipywidgets

from circuit_nb.figures.style import SMALL, html_text, number, percent, shorten
from circuit_nb.graph import AttributionGraph
from circuit_nb.graphsets.graphset import GraphSet
from circuit_nb.panels.base import Drawing, Frame, Panel, lines, tooltip
from circuit_nb.panels.page import INK, PAPER, Clickable, busy_html
from circuit_nb.panels.plot import Plot
from circuit_nb.panels.turns import tabs_html
from circuit_nb.patterns.comparing import Common
from circuit_nb.patterns.prompts_map import MOST, Departure

VIEWS = {
    "prompts": "Prompts × features",
    "circuit": "Average circuit",
    "map": "Prompts by circuit",
}
LISTED, COLUMNS, NAMED = 100, 30, 12
"""So many prompts are listed at once, features stand beside them, and outliers are named."""
HAS = "It uses these, fewer than half of the others do"
LACKS = "More than half of the others use these, it does not"
_STYLE = f"""
.cnb-prompts {{ max-height: 430px; overflow: auto; }}
.cnb-prompts thead th {{ position: sticky; top: 0; z-index: 1; vertical-align: bottom;
  background: linear-gradient({PAPER}, {PAPER}), Canvas; }}
.cnb-prompts .cnb-cells {{ width: 62%; padding: 0; }}
.cnb-cells > div {{ display: flex; height: 18px; }}
.cnb-cells i {{ flex: 1 1 0; min-width: 0; margin: 0 1px 1px 0;
  background: rgba(0,114,178,var(--much)); }}
.cnb-cells span {{ flex: 1 1 0; min-width: 0; writing-mode: vertical-rl; overflow: hidden;
  text-orientation: sideways; transform: rotate(180deg); text-overflow: ellipsis;
  font-size: {SMALL}px; line-height: 1; margin-right: 1px; }}
.cnb-prompts thead .cnb-cells > div {{ height: 116px; }}
.cnb-prompts .cnb-number {{ width: 54px; text-align: right; }}
.cnb-setpanel .cnb-plot text {{ fill: {INK} !important; }}
.cnb-setpanel th:first-child {{ padding-left: 2px; }}
.cnb-picked th.cnb-number {{ width: 48px; text-align: right; }}
.cnb-picked th.cnb-meter {{ width: 44px; }}
"""


class SetPanel(Frame):
    """A set of graphs: pick a prompt, see where its circuit departs, open its graph beneath.

    Args:
        graphs: The set.
        explore: Opens a graph, or the file of one.

    Raises:
        ValueError: If there are fewer than three graphs.
    """

    def __init__(
        self, graphs: GraphSet, explore: Callable[[AttributionGraph | Path], Panel]
    ) -> None:
        super().__init__(f"Set of {len(graphs)} prompts", RLock())
        self.graphs, self.map = graphs, graphs.map()
        self._explore = explore
        self.explorer: Panel | None = None
        """That of the graph opened last."""
        self.view = "prompts"
        self.number = int(self.map.likeness.argmin())
        """Of the prompt that is picked; at first the one most unlike the others."""
        self.outliers = Clickable(self.guard(self._click))
        self.search = ipywidgets.Text(placeholder="search prompts, answers, metadata")
        tooltip(self.search, "List the prompts in which this stands")
        self.tabs = Clickable(self.guard(self._turn))
        self.prompts = Clickable(self.guard(self._click))
        self.plot = Plot()
        self.picked = Clickable(self.guard(self._click))
        self.opener = ipywidgets.Button(description="Open its graph", layout={"width": "auto"})
        tooltip(self.opener, "The explorer of this prompt, beneath")
        self.beneath = ipywidgets.VBox([])
        self._arrange()
        self.search.observe(self.guard(lambda _: self._list()), "value")
        self.opener.on_click(self.guard(lambda _: self.open_graph()))
        self._turn(self.view)
        self.pick(self.number)

    def _arrange(self) -> None:
        """The list at the left, the prompt that is picked at the right, its graph beneath."""
        style = ipywidgets.HTML(f"<style>{_STYLE}</style>", layout={"display": "none"})
        self.search.layout.width = "auto"
        left = ipywidgets.VBox([self.tabs, self.search, self.prompts, self.plot])
        right = ipywidgets.VBox([self.picked, self.opener])
        for part, flex in ((left, "5 1 480px"), (right, "3 1 280px")):
            part.layout.flex, part.layout.min_width = flex, "0"
        both = ipywidgets.HBox(
            [left, right], layout={"flex_flow": "row wrap", "grid_gap": "4px 24px"}
        )
        self.body.children = [style, self.outliers, both, self.beneath]

    # What the reader does

    def _click(self, key: str) -> None:
        self.pick(int(key.removeprefix("p")))

    def pick(self, which: int) -> None:
        """Show where a prompt departs from the others.

        Args:
            which: Its number in the set.

        Raises:
            IndexError: If there is no such prompt.
        """
        if not 0 <= which < len(self.graphs):
            raise IndexError(f"There is no prompt {which}; give 0 to {len(self.graphs) - 1}.")
        self.number = which
        self.outliers.html = self._outliers_html()
        self.picked.html = self._picked_html()
        self._list()
        if self.view != "prompts":
            self._draw()

    def _turn(self, view: str) -> None:
        self.view = view
        self.tabs.html = tabs_html(VIEWS, view)
        for part in (self.search, self.prompts):
            part.layout.display = None if view == "prompts" else "none"
        if view == "prompts":
            self.plot.clear()
        else:
            self.plot.wait(f"Computing: {VIEWS[view].lower()}")
        self._draw()

    def open_graph(self) -> None:
        """Open the explorer of the prompt that is picked, in the place of the last."""
        place, old = self.graphs.places[self.number], self.explorer
        busy = ipywidgets.HTML(busy_html(f"Opening {self.map.names[self.number]}"))
        self.beneath.children = [*self.beneath.children, busy]
        try:
            # A file in JSON has labels, pins and groups beside its graph.
            is_json = place.path is not None and place.path.suffix == ".json"
            made = self._explore(place.path if place.path and is_json else place.load())
            made.prepare()
        finally:
            self.beneath.children = self.beneath.children[:-1]
            busy.close()
        self.explorer, self.beneath.children = made, [made]
        if old is not None:
            old.close()

    # What is shown

    def _draw(self) -> None:
        """The figure of the view that is open."""
        name = self.map.names[self.number]
        if self.view == "circuit":
            lacks = {d.unit for d in self.map.departs(self.number, len(self.map.features)).lacks}
            end = f" Hollow: what {name} lacks." if lacks else ""
            self.plot.show(self._common.figure(without=lacks), f"{self._common}{end}")
        elif self.view == "map":
            self.plot.show(
                self.map.figure(picked=self.number),
                f"Near each other where they use the same features. Ringed: {name}.",
            )
            self._listen()

    def _listen(self) -> None:
        """Pick the prompt whose point is clicked."""
        assert self.plot.figure is not None
        traces: Any = self.plot.figure.data
        far = self.map.outliers
        for trace, mask in zip(traces, (~far, far), strict=False):
            own = mask.nonzero()[0].tolist()
            picked = self.guard(lambda _, points, __, own=own: self.pick(own[points.point_inds[0]]))
            trace.on_click(picked)

    def _found(self) -> list[int]:
        """Prompts in which stands what is searched for."""
        wanted = self.search.value.casefold().strip()
        profiles, metadata = self.graphs.profiles, self.graphs.metadata
        texts = (
            " ".join([name, p.prompt, p.answer, *map(str, data.values())])
            for name, p, data in zip(self.map.names, profiles, metadata, strict=True)
        )
        return [i for i, text in enumerate(texts) if wanted in text.casefold()]

    def _list(self) -> None:
        found = self._found()
        shown = found[:LISTED]
        if self.number in found and self.number not in shown:
            shown[-1] = self.number
        labels = self.map.features[:COLUMNS]
        names = [(t, t.rpartition(" @ ")[0] or t) for t in labels]
        heads = "".join(f'<span title="{html_text(t)}">{html_text(n)}</span>' for t, n in names)
        focus = self.number if self.number in shown else next(iter(shown), -1)
        rows = "".join(self._row(i, focusable=i == focus) for i in shown)
        count = f"{len(shown)} of {len(found)} listed; search for the others"
        note = f'<div class="cnb-faint">{count}</div>' if len(found) > len(shown) else ""
        self.prompts.html = (
            '<div class="cnb-prompts"><table role="listbox" aria-label="Prompts"><thead><tr>'
            f'<th>prompt</th><th class="cnb-cells"><div aria-hidden="true">{heads}</div></th>'
            '<th class="cnb-number" title="Cosine to the mean of the others">likeness</th></tr>'
            f"</thead><tbody>{rows}</tbody></table></div>{note}"
            if shown
            else '<div class="cnb-empty">Nothing fits.</div>'
        )

    @cached_property
    def _strongest(self) -> float:
        return float(self.map.influence[:, :COLUMNS].max(initial=0)) or 1.0

    @cached_property
    def _common(self) -> Common:
        return self.graphs.common(MOST)

    def _row(self, i: int, *, focusable: bool) -> str:
        """One prompt: its name, a cell a feature, and how like the others it is."""
        top = self._strongest
        values = self.map.influence[i, :COLUMNS].tolist()
        cells = "".join(
            f'<i style="--much:{(value / top) ** 0.5:.2f}" '
            f'title="{html_text(label)}: {percent(value)}"></i>'
            if value
            else '<i style="--much:0.04"></i>'
            for label, value in zip(self.map.features, values, strict=False)
        )
        on, mark = i == self.number, "◆ " if self.map.outliers[i] else ""
        return (
            f'<tr data-key="p{i}" role="option" tabindex="{0 if focusable else -1}" '
            f'aria-selected="{str(on).lower()}"{" class=cnb-on" if on else ""} '
            f'title="{html_text(shorten(self.graphs.profiles[i].prompt, 200))}">'
            f"<td>{mark}{html_text(shorten(self.map.names[i], 60))}</td>"
            f'<td class="cnb-cells"><div aria-hidden="true">{cells}</div></td>'
            f'<td class="cnb-number">{number(float(self.map.likeness[i]))}</td></tr>'
        )

    def _outliers_html(self) -> str:
        far = self.map.outliers.nonzero()[0].tolist()
        chips = "".join(
            f'<span class="cnb-chip{" cnb-on" if i == self.number else ""}" data-key="p{i}" '
            f'tabindex="0" role="button">{html_text(shorten(self.map.names[i], 40))}</span>'
            for i in sorted(far, key=lambda i: self.map.likeness[i])[:NAMED]
        )
        rest = f" and {len(far) - NAMED} more, marked ◆" if len(far) > NAMED else ""
        said = (
            f"{_count(len(far), 'outlier')}, whose circuit is another: " if far else "No outliers."
        )
        return f'<div class="cnb-chips" data-row="1">{said}{chips}{rest}</div>'

    def _picked_html(self) -> str:
        profile, found = self.graphs.profiles[self.number], self.map.departs(self.number)
        name = html_text(self.map.names[self.number])
        return (
            f'<div class="cnb-picked"><div class="cnb-title" title="{name}">{name} '
            f"<small>{percent(profile.probability)}</small></div>"
            f'<div class="cnb-text">{html_text(shorten(profile.prompt, 300))}</div>'
            f'<div class="cnb-head">{html_text(self._sentence())}</div>'
            f"{_table(HAS, 'here', found.has)}{_table(LACKS, 'mean', found.lacks)}</div>"
        )

    def _sentence(self) -> str:
        """How like the others the prompt that is picked is."""
        end = ": another circuit." if self.map.outliers[self.number] else "."
        return f"Likeness to the others {number(float(self.map.likeness[self.number]))}{end}"

    def summary(self) -> str:
        """The set in a line."""
        return f"SetPanel({self.graphs!r})"

    def draw(self) -> Drawing:
        """The prompt that is picked, as plain lines."""
        found = self.map.departs(self.number, 6)
        count = _count(int(self.map.outliers.sum()), "outlier")
        texts = [
            f"{_count(len(self.graphs), 'prompt')}, {count}",
            f"{self.map.names[self.number]}. {self._sentence()}",
        ]
        for title, rows in zip((HAS, LACKS), found, strict=True):
            texts += [f"{title}:"] * bool(rows)
            texts += [f"{d.label}: {percent(d.share)} of the others" for d in rows]
        return lines(texts, width=860)

    def close(self) -> None:
        """Close this, the plot and the explorer beneath."""
        for part in (self.plot, self.explorer):
            if part is not None:
                part.close()
        super().close()


def _count(how_many: int, noun: str) -> str:
    return f"{how_many} {noun}{'s' if how_many != 1 else ''}"


def _table(title: str, column: str, found: tuple[Departure, ...]) -> str:
    """Features with their influence and the share of the other prompts that use them."""
    if not found:
        return f'<div class="cnb-faint cnb-head">{title}: none.</div>'
    strengths = [d.own or d.mean for d in found]
    rows = "".join(
        f'<tr><td title="{html_text(d.label)}">{html_text(d.label)}</td>'
        f'<td class="cnb-meter"><span class="cnb-bar cnb-{"plus" if d.own else "minus"}" '
        f'style="width:{max(1, round(44 * strength / max(strengths)))}px"></span></td>'
        f'<td class="cnb-number">{percent(strength)}</td>'
        f'<td class="cnb-number">{percent(d.share)}</td></tr>'
        for d, strength in zip(found, strengths, strict=True)
    )
    return (
        f'<div class="cnb-faint cnb-head">{title}</div><table><tr><th>feature</th>'
        f'<th class="cnb-meter"></th><th class="cnb-number">{column}</th>'
        f'<th class="cnb-number">others</th></tr>{rows}</table>'
    )
