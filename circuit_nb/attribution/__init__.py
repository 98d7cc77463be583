"""Attribution: which features, errors and tokens caused which others, and the next token."""

from circuit_nb.attribution.compute import attribute
from circuit_nb.attribution.targets import Target, Targets

__all__ = ["Target", "Targets", "attribute"]
