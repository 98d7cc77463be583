"""Sets whose TopK chooses among the features of all layers at once.

What is checked against is the definition, written out anew: of all pre-activations of a token that
are above zero, whatever their layer, the largest `joint_k`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from families import N_FEATURES, N_LAYERS, PROMPT, hf_model, tiny, transcoders
from torch import Tensor

from circuit_nb import Feature, Intervention, cards, intervene, load, training
from circuit_nb.cards.texts import Texts
from circuit_nb.model.replacement import ReplacementModel

K = 14
TEXTS = (PROMPT, "<bos> the state of Texas is", "<bos> Dallas")


@pytest.fixture(scope="module", params=["plain", "ranked"])
def model(request: pytest.FixtureRequest, tokenizer: Any) -> ReplacementModel:
    if request.param == "plain":
        return tiny("llama", tokenizer, cross_layer=True, activation="joint")
    sets = transcoders(cross_layer=True, activation="joint")
    layers = [
        replace(layer, rank=torch.rand(N_FEATURES, generator=torch.Generator().manual_seed(i)))
        for i, layer in enumerate(sets.layers)
    ]
    sets = replace(sets, layers=tuple(layers))
    return load(hf_model("llama"), sets, tokenizer=tokenizer, device="cpu")


def defined(model: ReplacementModel, reads: list[Tensor]) -> Tensor:
    """Activations (positions, layers, features) of what each layer read, (positions, d_model)."""
    layers = zip(model.transcoders.layers, reads, strict=True)
    pre = torch.stack([x @ layer.W_enc.T + layer.b_enc for layer, x in layers], 1).relu()  # type: ignore[union-attr]
    ranks = [torch.ones(N_FEATURES) if t.rank is None else t.rank for t in model.transcoders.layers]
    kept = (pre * torch.stack(ranks)).flatten(1).topk(K, dim=1).indices
    flat = pre.flatten(1)
    return torch.zeros_like(flat).scatter(1, kept, flat.gather(1, kept)).view_as(pre)


def active(model: ReplacementModel, text: str) -> Tensor:
    """Activations (positions, layers, features) of a text as its record has them."""
    record = model.record(text)
    found = torch.zeros(record.positions, N_LAYERS, N_FEATURES)
    layers, positions, indices = record.features.T
    found[positions, layers, indices] = record.activations
    return found


def test_the_largest_of_all_layers_are_active(model: ReplacementModel) -> None:
    record, found = model.record(PROMPT), active(model, PROMPT)
    expected = defined(model, list(record.reads))
    expected[: record.ignored] = 0
    torch.testing.assert_close(found, expected)
    of_layers = (found != 0).sum(2)[record.ignored :]
    assert (of_layers.sum(1) == K).all()
    assert len(of_layers.unique(dim=0)) > 1, "else a k of each layer would be the same"


def test_prompts_recorded_together_are_those_recorded_alone(model: ReplacementModel) -> None:
    for text, together in zip(TEXTS, model.records(TEXTS), strict=True):
        alone = model.record(text)
        torch.testing.assert_close(together.features, alone.features)
        torch.testing.assert_close(together.activations, alone.activations)
        torch.testing.assert_close(together.cut, alone.cut)


@pytest.mark.parametrize("freeze", ["none", "attention", "all"])
def test_where_nothing_is_changed_features_read_as_they_were_recorded(
    model: ReplacementModel, freeze: Any
) -> None:
    found = active(model, PROMPT)
    every = [
        Feature(layer, position, i)
        for layer in range(N_LAYERS)
        for position in range(len(found))
        for i in range(N_FEATURES)
    ]
    one = Feature(*model.record(PROMPT).features[-1].tolist())
    out = intervene(model, PROMPT, [Intervention.scale(one, 1.0)], freeze=freeze, watch=every)
    read = torch.tensor([out.after.activations[f] for f in every])
    read = read.view(N_LAYERS, len(found), N_FEATURES).transpose(0, 1)
    torch.testing.assert_close(read, found)


def test_a_change_is_held_to_the_cut_of_the_prompt(model: ReplacementModel) -> None:
    """A later layer's features are on where they reach what they had to without the change."""
    record = model.record(PROMPT)
    last = record.positions - 1
    first = next(f for f in (Feature(*row) for row in record.features.tolist()) if f.layer == 0)
    watched = [Feature(2, p, i) for p in range(1, last + 1) for i in range(N_FEATURES)]
    out = intervene(model, PROMPT, [Intervention.scale(first, 30.0)], watch=watched)
    assert record.cut is not None
    own, turned = model.transcoders.layers[2], 0
    for f in watched:
        pre = torch.tensor(out.after.pre_activations[f])
        rank = 1.0 if own.rank is None else float(own.rank[f.index])
        on = pre > 0 and float(pre) * rank >= float(record.cut[f.position])
        assert out.after.activations[f] == pytest.approx(float(pre) if on else 0.0)
        turned += on != (out.before.activations[f] != 0)
    assert turned, "nothing was turned on or off: the change is too small to tell"


def test_generated_tokens_are_held_to_the_last_cut(model: ReplacementModel) -> None:
    """A feature set at every token, in a pass over all of them that is written out anew."""
    record, own = model.record(PROMPT), model.transcoders.layers[0]
    assert record.cut is not None
    change = Intervention.set(Feature(0, record.ignored, 3), 9.0, from_position=record.ignored)
    out = intervene(model, PROMPT, [change], freeze="none", max_new_tokens=3)
    rank = 1.0 if own.rank is None else float(own.rank[3])
    row = own.decoder.rows(torch.tensor([3]))[0]
    ids, written = record.token_ids.tolist(), dict[int, Tensor]()

    def read(x: Tensor, hook: Any) -> None:
        pre = own.pre_activations(x[0])[:, 3]
        assert record.cut is not None
        cut = torch.cat([record.cut, record.cut[-1:].expand(len(pre) - len(record.cut))])
        current = pre * ((pre > 0) & (pre * rank >= cut))
        differs = (9.0 - current) * (torch.arange(len(pre)) >= record.ignored)
        written.update({i: differs[:, None] * row[i] for i in range(N_LAYERS)})

    def write(x: Tensor, hook: Any, layer: int) -> Tensor:
        return x + written[layer]

    t = model.transcoders
    hooks: list[Any] = [(model.blocks[0].hook(t.input_hook), read)]
    hooks += [(b.hook(t.output_hook), partial(write, layer=b.layer)) for b in model.blocks]
    for token in out.after.generated:
        assert int(model.run(torch.tensor([ids]), hooks)[0, -1].argmax()) == token
        ids.append(token)
    assert len(out.after.generated) > 1


def test_cards_and_texts_say_the_same(model: ReplacementModel) -> None:
    found = cards.compute(model, TEXTS, progress=False, effects=0)
    by_text = [active(model, text) for text in TEXTS]
    peaks = torch.stack([one.amax(0) for one in by_text]).amax(0)
    assert set(found) == {(int(i), int(j)) for i, j in peaks.nonzero()}
    texts = Texts(model, TEXTS)
    for (layer, index), card in found.items():
        peak = pytest.approx(float(peaks[layer, index]), rel=1e-5)
        assert max(card.examples[0].activations) == peak
        assert max(texts.examples(layer, index)[0].activations) == peak


def test_a_report_replaces_mlps_by_what_the_model_itself_chooses(model: ReplacementModel) -> None:
    from circuit_nb.training.replacing import logits_under
    from circuit_nb.training.sequences import Sequences

    told = training.report(model, TEXTS)
    assert told.active.sum() == pytest.approx(K)
    assert told.loss_all != told.loss
    batch = next(Sequences(model, TEXTS, 128).batches(10**6, 0))
    rows = [i for i, ids in enumerate(batch.token_ids) if int(batch.counted[i].sum()) > 2]
    changed = logits_under(model, batch, (0,))[rows[0]]
    n = int(batch.counted[rows[0]].nonzero().max()) + 1
    text = model.record(batch.token_ids[rows[0]][:n].tolist())
    written, t = torch.zeros(n, len(text.embeddings[0])), model.transcoders
    for position, features in enumerate(defined(model, list(text.reads))[:, 0]):
        where = features.nonzero()[:, 0]
        written[position] = features[where] @ t.layers[0].decoder.rows(where)[:, 0]
    written += t.layers[0].b_dec

    def write(x: Tensor, hook: Any) -> Tensor:
        return torch.cat([x[:, : text.ignored], written[None, text.ignored :]], 1)

    expected = model.run(text.token_ids[None], [(model.blocks[0].hook(t.output_hook), write)])[0]
    torch.testing.assert_close(changed[:n], expected, atol=1e-4, rtol=1e-4)
