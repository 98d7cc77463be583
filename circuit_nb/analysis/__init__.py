"""Pure functions on attribution graphs: influence, pruning, scores, paths, stories, comparison.

Influence, pruning and both scores follow Ameisen et al. 2025, *Circuit Tracing*, "Graph pruning"
and "Evaluating attribution graphs".
"""

from circuit_nb.analysis.chains import Path, paths
from circuit_nb.analysis.comparing import (
    Comparison,
    common_nodes,
    compare,
    edges_between,
    supernode_weights,
    to_networkx,
)
from circuit_nb.analysis.flow import (
    Scores,
    cumulative_influence,
    influence,
    normalized,
    scores,
)
from circuit_nb.analysis.pruning import prune, prune_masks
from circuit_nb.analysis.stories import story
from circuit_nb.analysis.summary import Summary, summary
from circuit_nb.analysis.tracing import effects, origins, pulls, ubiquitous

__all__ = [
    "Comparison",
    "Path",
    "Scores",
    "Summary",
    "common_nodes",
    "compare",
    "cumulative_influence",
    "edges_between",
    "effects",
    "influence",
    "normalized",
    "origins",
    "paths",
    "prune",
    "prune_masks",
    "pulls",
    "scores",
    "story",
    "summary",
    "supernode_weights",
    "to_networkx",
    "ubiquitous",
]
