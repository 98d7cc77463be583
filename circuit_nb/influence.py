"""How much each node of a graph matters to its targets, on plain arrays.

Rows are features then targets, columns features, errors, tokens: `[target, source]`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def normalized(weights: Floats) -> Floats:
    """Rows of |weights| scaled to sum to one (all-zero rows stay zero), same shape."""
    strength = np.abs(weights)
    return strength / np.maximum(strength.sum(axis=1, keepdims=True), 1e-10)


def propagate(shares: Floats, probabilities: Floats, n_layers: int) -> Floats:
    """Influence of every column: the sum over k >= 1 of p N^k (Ameisen et al. 2025).

    Args:
        shares: Normalised strengths N, (n_features + n_targets, n_features + n_errors + positions).
        probabilities: The targets' p, (n_targets,).
        n_layers: Layers of the model.

    Returns:
        (n_features + n_errors + positions,).
    """
    n_features = len(shares) - len(probabilities)
    reach = np.zeros(len(shares), dtype=np.float32)
    reach[n_features:] = probabilities
    total = np.zeros(shares.shape[1], dtype=np.float32)
    # Edges only climb layers, so the walk ends after as many steps as there are layers, and one.
    for _ in range(n_layers + 1):
        step = reach @ shares
        total += step
        if not step[:n_features].any():
            break
        reach = np.concatenate([step[:n_features], np.zeros_like(probabilities)])
    return total


def influence(weights: Floats, probabilities: Floats, n_layers: int) -> Floats:
    """Influence of every column of a graph's `weights`; see `propagate` for the arguments."""
    return propagate(normalized(weights), probabilities, n_layers)
