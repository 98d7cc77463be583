"""What experiments say of a circuit: predicted against measured, curves, sweeps, swaps, parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from circuit_nb.figures.plots import LINE, axes, signed_map
from circuit_nb.figures.style import (
    BODY,
    GREY,
    NEGATIVE,
    POSITIVE,
    SUPERNODE_HUES,
    distinct_tokens,
    percent,
    plotly_text,
    shorten,
    signed,
    token_text,
)

Numbers = npt.NDArray[np.floating[Any]]
NAME_LENGTH = 26
HUES = (POSITIVE, *SUPERNODE_HUES, NEGATIVE)


def verify_figure(predicted: Numbers, measured: Numbers) -> go.Figure:
    """Measured effects by those the graph predicts; on the line both are equal.

    Args:
        predicted: (n,).
        measured: (n,).
    """
    most = 1.06 * float(max(np.abs(predicted).max(initial=0), np.abs(measured).max(initial=0)))
    layout = axes("predicted by the graph", "measured", height=360)
    for axis in ("xaxis", "yaxis"):
        layout[axis] |= {"range": [-most, most], "zeroline": True}
    layout["showlegend"] = False
    line = _line([-most, most], [-most, most], LINE, "", dash="dot")
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": predicted.tolist(),
        "y": measured.tolist(),
        "marker": {"size": 6, "color": POSITIVE, "opacity": 0.55, "line": {"width": 0}},
        "hovertemplate": "predicted %{x:.3g}<br>measured %{y:.3g}<extra></extra>",
    }
    return go.Figure({"data": [line, points], "layout": layout})


def faithfulness_figure(
    *,
    sizes: Numbers,
    values: Numbers,
    random: tuple[Numbers, Numbers, Numbers],
    circuit: tuple[float, float],
    control: tuple[float, float, float],
) -> go.Figure:
    """How much the most influential features keep, by how many, and random ones beside them.

    Args:
        sizes: Shares of the active features, (n,), from 0.
        values: Faithfulness of so many, (n,).
        random: Of random features: mean, and where 95 % of them lie, (n,) each.
        circuit: Size and faithfulness of the circuit.
        control: Of random circuits of its size: mean, and where 95 % of them lie.
    """
    shown = sizes > 0
    x = sizes[shown].tolist()
    mean, low, high = (part[shown].tolist() for part in random)
    band = {
        **_line([*x, *x[::-1]], [*high, *low[::-1]], "rgba(0,0,0,0)", ""),
        "fill": "toself",
        "fillcolor": "rgba(118,118,118,0.18)",
        "hoverinfo": "skip",
        "showlegend": False,
    }
    at = {"type": "scatter", "mode": "markers", "x": [circuit[0]]}
    below, above = control[0] - control[1], control[2] - control[0]
    data = [
        band,
        _line(x, mean, GREY, "random features", dash="dot"),
        _line(x, values[shown].tolist(), POSITIVE, "the most influential"),
        {
            **at,
            "y": [control[0]],
            "name": "random circuits",
            "marker": {"size": 9, "color": GREY},
            "error_y": {"type": "data", "array": [above], "arrayminus": [below], "color": GREY},
        },
        {
            **at,
            "y": [circuit[1]],
            "name": "this circuit",
            "marker": {"size": 13, "color": NEGATIVE, "symbol": "diamond"},
        },
    ]
    for trace in data[1:]:
        trace["hovertemplate"] = "%{x:.1%} of the features keep %{y:.1%}<extra></extra>"
    layout = axes("share of the active features kept", "share of the answer kept", height=380)
    layout["xaxis"] |= {
        "type": "log",
        "tickformat": "~%",
        "tickvals": [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1],
    }
    layout["xaxis"]["range"] = [math.log10(x[0]) - 0.02, 0.03]
    layout["yaxis"] |= {"tickformat": ".0%", "zeroline": True}
    layout["margin"]["r"] = 30
    layout["shapes"] = [_level(1.0)]
    return go.Figure({"data": data, "layout": layout})


def sweep_figure(
    multipliers: Numbers, probabilities: Numbers, tokens: Sequence[str], part: str
) -> go.Figure:
    """Probabilities of tokens as a part's multiplier changes; the prompt as it is at 1.

    Args:
        multipliers: (n,).
        probabilities: (n, tokens).
        tokens: Their text.
        part: The part's name.
    """
    order = np.argsort(multipliers)
    data = [
        {
            **_line(
                multipliers[order].tolist(),
                column[order].tolist(),
                HUES[i % len(HUES)],
                plotly_text(name),
            ),
            "hovertemplate": f"{plotly_text(name)}: %{{y:.1%}} at ×%{{x:g}}<extra></extra>",
        }
        for i, (name, column) in enumerate(
            zip(distinct_tokens(tokens), probabilities.T, strict=True)
        )
    ]
    layout = axes(f"multiplier of {plotly_text(shorten(part, NAME_LENGTH))}", "probability")
    layout["yaxis"] |= {"tickformat": ".0%", "range": [-0.02, 1.04]}
    layout["xaxis"] |= {"dtick": 1, "zeroline": False}
    layout["shapes"] = [
        {
            "type": "line",
            "x0": 1,
            "x1": 1,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"color": LINE, "width": 1, "dash": "dot"},
        }
    ]
    return go.Figure({"data": data, "layout": layout})


def combinations_figure(parts: Sequence[str], shapley: Numbers, pairs: Numbers) -> go.Figure:
    """What each part adds, and where two together do not do what each does.

    Args:
        parts: Names.
        shapley: (parts,), in logits.
        pairs: (parts, parts), in logits.
    """
    names = [shorten(part, NAME_LENGTH) for part in parts]
    values = np.concatenate([shapley[:, None], pairs], axis=1)
    hover = [
        [
            f"{plotly_text(a)}: worth {signed(own)}",
            *(
                f"{plotly_text(a)} and {plotly_text(b)}: {signed(joint)}"
                + (", stand in for each other" if joint > 0 else ", need each other")
                if i != j
                else ""
                for j, (b, joint) in enumerate(zip(parts, row, strict=True))
            ),
        ]
        for i, (a, own, row) in enumerate(zip(parts, shapley.tolist(), pairs.tolist(), strict=True))
    ]
    spec = signed_map(values, names, ["worth", *names], hover, cell=34, written=signed)
    return go.Figure(spec)


def swaps_figure(
    parts: Sequence[str],
    answers: npt.NDArray[np.str_],
    expected: Sequence[str],
    probabilities: Numbers,
) -> go.Figure:
    """Probability of the answer of the part put in, for every pair of prompts.

    Args:
        parts: Name of each prompt's part, (n,).
        answers: Most likely token after the swap, (n, n): rows are run, columns put in.
        expected: Each prompt's own answer, (n,).
        probabilities: Of the answer of the part put in, (n, n).
    """
    names = [shorten(part, NAME_LENGTH) for part in parts]
    hover = [
        [
            f"{plotly_text(a)} out, {plotly_text(b)} in: {plotly_text(token_text(str(answer)))}"
            f"<br>{plotly_text(token_text(wanted))} {percent(p)}"
            for b, answer, wanted, p in zip(parts, row, expected, shares, strict=True)
        ]
        for a, row, shares in zip(parts, answers, probabilities.tolist(), strict=True)
    ]
    small = len(parts) > 20
    spec = signed_map(probabilities, names, names, hover, cell=14 if small else 24)
    layout = spec["layout"]
    layout["yaxis"]["title"]["text"], layout["xaxis"]["title"]["text"] = "taken out", "put in"
    layout["xaxis"] |= {"side": "bottom", "tickangle": -90 if small else -45}
    for axis in ("xaxis", "yaxis"):
        layout[axis]["tickfont"] = {"size": 9 if small else BODY}
    layout["margin"]["l"] += 22
    layout["margin"]["b"] += 40 if small else 18
    layout["height"] += 40 if small else 18
    return go.Figure(spec)


def stability_figure(prompts: Sequence[str], overlap: Numbers, size: int) -> go.Figure:
    """Overlap of the most influential features of every pair of prompts.

    Args:
        prompts: Their text.
        overlap: Jaccard overlap, (prompts, prompts).
        size: How many features of each are compared.
    """
    names = [shorten(prompt, 44) for prompt in prompts]
    hover = [
        [
            f"{plotly_text(shorten(a, 80))}<br>{plotly_text(shorten(b, 80))}"
            f"<br>{percent(share)} of the first {size} features"
            for b, share in zip(prompts, row, strict=True)
        ]
        for a, row in zip(prompts, overlap.tolist(), strict=True)
    ]
    numbers = [str(i + 1) for i in range(len(prompts))]
    rows = [f"{name}  {i}" for name, i in zip(names, numbers, strict=True)]
    return go.Figure(signed_map(overlap, rows, numbers, hover, cell=30, written=percent))


def _line(x: list[float], y: list[float], colour: str, name: str, dash: str = "solid") -> Any:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "name": name,
        "line": {"color": colour, "width": 2.5, "dash": dash},
        "showlegend": bool(name),
    }


def _level(y: float) -> dict[str, Any]:
    line = {"color": LINE, "width": 1, "dash": "dot"}
    return {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": y, "y1": y, "line": line}
