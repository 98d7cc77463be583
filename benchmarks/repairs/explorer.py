"""Point 9: the explorer never shows an answer that is not that of its switches."""

from __future__ import annotations

from typing import Any

from registry import DALLAS, atlas, case, dallas_graph


def _explorer(propose: bool = False) -> Any:
    from circuit_nb import explore

    return explore(atlas(), dallas_graph(), propose=propose)


def _strongest() -> Any:
    """The feature without which Austin falls lowest."""
    from circuit_nb import Intervention, intervene

    features = [n for n in dallas_graph().nodes if type(n).__name__ == "Feature"]

    def left(feature: Any) -> float:
        outcome = intervene(atlas(), DALLAS, [Intervention.ablate(feature)])
        return outcome.after.probability(" Austin")

    return min(features, key=left)


def _pinned_and_off() -> tuple[Any, Any]:
    """An explorer whose strongest feature is pinned and switched off."""
    explorer, feature = _explorer(), _strongest()
    explorer.session.pin(feature)
    explorer.switches.switches[explorer.session.title(feature)].value = False
    return explorer, feature


def _told(explorer: Any, name: str) -> str:
    """What a row says, and the answer shown beside `intervene` run anew on what all rows say."""
    from circuit_nb import Intervention, intervene

    panel, session = explorer.switches, explorer.session
    changes = []
    for row, switch in panel.switches.items():
        multiplier = panel.multipliers[row].value
        if not switch.value:
            changes.append(Intervention.ablate(session.rows[row]))
        elif multiplier != 1:
            changes.append(Intervention.scale(session.rows[row], multiplier))
    shown = (session.after or session.before)[" Austin"]
    anew = intervene(atlas(), DALLAS, changes).after.probability(" Austin")
    switch = panel.switches.get(name)
    row = "no such row" if switch is None else f"the row is {'on' if switch.value else 'off'}"
    verdict = "right" if abs(shown - anew) < 1e-4 else "WRONG"
    return f"{row}, Austin is shown at {shown:.1%}, anew {anew:.1%}: {verdict}"


@case(9, "relabels a feature that is pinned and off")
def relabel() -> str:
    explorer, feature = _pinned_and_off()
    explorer.session.relabel(feature, "my own name")
    return _told(explorer, explorer.session.title(feature))


@case(9, "unpins a feature that is off, and pins it again")
def pin_again() -> str:
    explorer, feature = _pinned_and_off()
    explorer.session.unpin(feature)
    explorer.session.pin(feature)
    return _told(explorer, explorer.session.title(feature))


@case(9, "renames a group to a pinned feature's title")
def rename() -> str:
    explorer, feature = _explorer(propose=True), _strongest()
    session = explorer.session
    holder = next((g for g in session.setup.supernodes if feature in g.features), None)
    if holder is not None:
        session.ungroup(holder)
    session.pin(feature)
    rows = len(explorer.switches.switches)
    session.rename(session.setup.supernodes[0], session.title(feature))
    return f"{rows} rows before, {len(explorer.switches.switches)} after"


@case(9, "a new group of a removed one's name, which was off")
def inherited() -> str:
    explorer = _explorer(propose=True)
    session = explorer.session
    first, other = session.setup.supernodes[:2]
    explorer.switches.switches[first.name].value = False
    session.unpin(first)
    session.group(first.name, [other])
    return _told(explorer, first.name)
