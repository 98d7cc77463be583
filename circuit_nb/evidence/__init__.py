"""Is the graph true, and what are its parts? So far: `propose`, the parts a person would draw."""

from circuit_nb.evidence.propose import propose

__all__ = ["propose"]
