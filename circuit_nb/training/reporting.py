"""`report`: how good a transcoder set is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from circuit_nb.analysis import scores
from circuit_nb.attribution.compute import attribute
from circuit_nb.graph import AttributionGraph
from circuit_nb.model.replacement import ReplacementModel
from circuit_nb.model.vocabulary import Prompt
from circuit_nb.training.mlps import read
from circuit_nb.training.replacing import logits_under, reconstruct
from circuit_nb.training.sequences import Batch, Sequences

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LENGTH, _TOKENS = 128, 1024

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Report:
    """What was measured of one set; all shares lie between 0 and 1."""

    unexplained: Floats
    """(layers,): share of the variance of what an MLP writes that reconstruction leaves."""
    active: Floats
    """(layers,): features that fire at a token, on average (L0)."""
    density: Floats
    """(layers, features): share of the tokens a feature fires at; 0 is a dead feature."""
    loss: float
    """Mean next-token loss of the model as it is, in nats."""
    loss_each: Floats
    """(layers,): the same with one layer's MLP replaced; NaN where that was not measured."""
    loss_all: float
    """The same with every MLP replaced."""
    same_top: float
    """Share of tokens after which the model with every MLP replaced still gives the same most
    likely token."""
    replacement: Floats
    """(prompts,): replacement score of each prompt's graph."""
    completeness: Floats
    """(prompts,)."""
    tokens: int
    """How many tokens this was measured on."""

    @property
    def dead(self) -> Floats:
        """(layers,): share of features that never fired here."""
        return (self.density == 0).mean(1)

    def __str__(self) -> str:
        told = (
            f"{self.unexplained.mean():.3f} of the variance unexplained with "
            f"{self.active.mean():.1f} features a token and layer, {self.dead.mean():.1%} dead; "
            f"with every MLP replaced {self.same_top:.0%} of the likeliest tokens stay, and the "
            f"loss is {self.loss_all:.2f} in place of {self.loss:.2f} nats"
        )
        if len(self.replacement):
            told += (
                f"; replacement score {self.replacement.mean():.2f}, completeness "
                f"{self.completeness.mean():.2f} over {len(self.replacement)} prompts"
            )
        return told + "."

    def figure(self) -> go.Figure:
        """What each layer leaves unexplained, and how often features fire."""
        from circuit_nb.figures.training import report_figure

        return report_figure(self.unexplained, self.density)

    def card(self, title: str, beside: dict[str, Report] | None = None) -> str:
        """A Markdown card to lie next to the weights.

        Args:
            title: What the set is.
            beside: Reports of other sets on the same texts and prompts, by name.
        """
        rows = {"this set": self, **(beside or {})}
        lines = [
            f"# {title}",
            "",
            f"Measured on {self.tokens:,} tokens and {len(self.replacement)} prompts.",
            "",
            "| | " + " | ".join(rows) + " |",
            "|---" * (len(rows) + 1) + "|",
        ]
        lines += [
            f"| {name} | " + " | ".join(tell(report) for report in rows.values()) + " |"
            for name, tell in _TOLD.items()
        ]
        lines += [
            "",
            "| layer | unexplained | active | dead | loss alone |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {i} | {u:.3f} | {a:.1f} | {d:.1%} | {'–' if np.isnan(loss) else f'{loss:.3f}'} |"
            for i, (u, a, d, loss) in enumerate(
                zip(self.unexplained, self.active, self.dead, self.loss_each, strict=True)
            )
        ]
        return "\n".join(lines) + "\n"


def _over(values: Floats) -> str:
    return f"{values.mean():.3f} ({values.min():.2f}–{values.max():.2f})" if len(values) else "–"


_TOLD = {
    "variance unexplained, mean over layers": lambda r: f"{r.unexplained.mean():.3f}",
    "features a token and layer": lambda r: f"{r.active.mean():.1f}",
    "dead features": lambda r: f"{r.dead.mean():.1%}",
    "loss, the model's own": lambda r: f"{r.loss:.3f}",
    "loss, every MLP replaced": lambda r: f"{r.loss_all:.3f}",
    "same likeliest token, every MLP replaced": lambda r: f"{r.same_top:.1%}",
    "replacement score": lambda r: _over(r.replacement),
    "completeness score": lambda r: _over(r.completeness),
}


def report(
    model: ReplacementModel,
    texts: Iterable[str | Sequence[int]],
    prompts: Iterable[Prompt | AttributionGraph] = (),
    *,
    max_features: int | None = 5000,
    each_layer: bool = True,
) -> Report:
    """Judge a model's transcoders on texts they were not trained on.

    Args:
        model: The model with the set to be judged; others are judged with `model.transcoders`
            set to them.
        texts: Texts or token ids.
        prompts: Prompts whose graphs are scored, or graphs that there are already.
        max_features: Of each graph that is computed, as for `attribute`: scores depend on it.
        each_layer: Whether the loss is measured with one MLP replaced at a time, too: a pass over
            the texts for every layer.
    """
    batches = list(Sequences(model, texts, _LENGTH).batches(_TOKENS, 0))
    unexplained, fired, tokens = _reconstructed(model, batches)
    layers = range(model.transcoders.n_layers)
    own, likeliest = _next_tokens(model, batches, ())
    every, kept = _next_tokens(model, batches, layers)
    each = [_next_tokens(model, batches, (layer,))[0] if each_layer else np.nan for layer in layers]
    found = [
        scores(
            given
            if isinstance(given, AttributionGraph)
            else attribute(model, given, max_features=max_features, progress=False)
        )
        for given in prompts
    ]
    return Report(
        unexplained=unexplained,
        active=fired.sum(1) / tokens,
        density=fired / tokens,
        loss=own,
        loss_each=np.array(each),
        loss_all=every,
        same_top=float((likeliest == kept).mean()),
        replacement=np.array([s.replacement for s in found]),
        completeness=np.array([s.completeness for s in found]),
        tokens=tokens,
    )


@torch.no_grad()
def _reconstructed(model: ReplacementModel, batches: Sequence[Batch]) -> tuple[Floats, Floats, int]:
    """Share unexplained (layers,), how often each feature fired (layers, features), tokens."""
    t = model.transcoders
    n_layers, d = t.n_layers, t.d_model
    error, squares = np.zeros(n_layers), np.zeros(n_layers)
    sums = torch.zeros(n_layers, d, dtype=torch.float64)
    most = max(len(layer.b_enc) for layer in t.layers)
    fired, tokens = np.zeros((n_layers, most)), 0
    for batch in batches:
        inputs, outputs = read(model, batch, t.input_hook, t.output_hook)
        tokens += len(inputs[0])
        made: dict[int, Tensor] = {}
        cut = t.cut(inputs)
        for i, x in enumerate(inputs):
            active = t.layers[i].activate(t.layers[i].pre_activations(x), cut)
            fired[i, : active.shape[1]] += (active != 0).sum(0).cpu().numpy()
            for target, part in reconstruct(model, i, x, cut).items():
                made[target] = made.get(target, 0) + part.float()
            wanted = outputs[i].double()
            error[i] += float((made.pop(i) - wanted).pow(2).sum())
            squares[i] += float(wanted.pow(2).sum())
            sums[i] += wanted.sum(0).cpu()
    return error / (squares - (sums.pow(2).sum(1) / tokens).numpy()), fired, tokens


def _next_tokens(
    model: ReplacementModel, batches: Sequence[Batch], replaced: Collection[int]
) -> tuple[float, npt.NDArray[np.int64]]:
    """Mean next-token loss with some MLPs replaced, and the likeliest token after each token."""
    losses: list[Tensor] = []
    tops: list[Tensor] = []
    for batch in batches:
        logits = logits_under(model, batch, replaced)
        # A token is counted where it and the one that follows are.
        both = (batch.counted[:, :-1] & batch.counted[:, 1:]).to(logits.device)
        following = batch.token_ids[:, 1:].to(logits.device)[both]
        losses.append(F.cross_entropy(logits[:, :-1][both].float(), following, reduction="none"))
        tops.append(logits[batch.counted.to(logits.device)].argmax(-1))
    return float(torch.cat(losses).mean()), torch.cat(tops).cpu().numpy()
