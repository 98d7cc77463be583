"""Transcoders for one's own model: trained, read back, and judged."""

from circuit_nb.training.fitting import train_transcoders
from circuit_nb.training.plan import Plan
from circuit_nb.training.random_sets import random_like
from circuit_nb.training.reporting import Report, report

__all__ = ["Plan", "Report", "random_like", "report", "train_transcoders"]
