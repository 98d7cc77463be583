"""Attribution: which features, errors and tokens caused which others, and the next token."""

from circuit_nb.attribution.compute import attribute
from circuit_nb.attribution.heads import HeadFlow, Heads, between, heads
from circuit_nb.attribution.looking import Looking, looking
from circuit_nb.attribution.targets import Target, Targets

__all__ = [
    "HeadFlow",
    "Heads",
    "Looking",
    "Target",
    "Targets",
    "attribute",
    "between",
    "heads",
    "looking",
]
