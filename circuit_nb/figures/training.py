"""How good a transcoder set is, layer by layer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

_LEAST = -5.0
"""Power of ten that features which fire more rarely are counted with."""


def report_figure(
    unexplained: npt.NDArray[np.float64], density: npt.NDArray[np.float64]
) -> go.Figure:
    """Variance unexplained by layer, and the histogram of how often features fire.

    Args:
        unexplained: (layers,), from 0 to 1.
        density: (layers, features), from 0 to 1; features that never fire are left out.
    """
    figure = make_subplots(
        1, 2, subplot_titles=("Variance unexplained", "How often features fire"),
        horizontal_spacing=0.12,
    )  # fmt: skip
    figure.add_bar(x=np.arange(len(unexplained)), y=unexplained, row=1, col=1, name="unexplained")
    often = np.log10(density[density > 0])
    counts, edges = np.histogram(often.clip(_LEAST, 0), bins=40, range=(_LEAST, 0))
    figure.add_bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=counts,
        width=np.diff(edges),
        row=1,
        col=2,
        name="features",
    )
    figure.update_xaxes(title="layer", row=1, col=1)
    figure.update_yaxes(range=[0, 1], row=1, col=1)
    powers = np.arange(_LEAST, 1)
    texts = [f"{10.0**p:.3%}".rstrip("0").rstrip(".%") + "%" for p in powers]
    figure.update_xaxes(title="share of tokens", tickvals=powers, ticktext=texts, row=1, col=2)
    figure.update_yaxes(title="features", row=1, col=2)
    figure.update_layout(showlegend=False, height=320, margin={"l": 50, "r": 20, "t": 40, "b": 45})
    return figure
