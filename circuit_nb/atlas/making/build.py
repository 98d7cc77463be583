"""Build the atlas model from its facts: `python -m circuit_nb.atlas.build --output DIR`.

Everything follows from fixed seeds: training in four stages, transcoders, concepts and
labels, figures. On two CPU cores it takes about 25 minutes. DIR then holds what ships in
`circuit_nb/atlas/weights`, and every stage's model under `stages/`, from where a later stage
can be run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from circuit_nb.atlas.making import evaluate
from circuit_nb.atlas.making.concept_rules import find_concepts
from circuit_nb.atlas.making.corpus import Corpus
from circuit_nb.atlas.making.label_rules import find_labels
from circuit_nb.atlas.making.network import Shape, new_model
from circuit_nb.atlas.making.probe import load_model, load_transcoders, save_transcoders
from circuit_nb.atlas.making.samples import collect
from circuit_nb.atlas.making.sparsify import train_transcoders
from circuit_nb.atlas.making.stages import PLANS, ROUNDS, STAGES, Finetuning, Plan, Stage
from circuit_nb.atlas.making.tokenizer import build_tokenizer
from circuit_nb.atlas.making.training import train_stage
from circuit_nb.atlas.shipped import Concept, read_concepts
from circuit_nb.atlas.world import World, load_world
from circuit_nb.files import check_writable, replacing_folder, write_text

Log = Callable[[str], None]
INITIAL_SEED = 0
"""Seed of the untrained model."""
_BYTES = 100_000_000
"""What a build takes on the disk, roughly."""


class Build:
    """One build in one folder; each method reads what the ones before it wrote there."""

    def __init__(
        self,
        folder: Path,
        *,
        world: World | None = None,
        shape: Shape | None = None,
        stages: Sequence[Stage] = STAGES,
        plans: tuple[Plan, ...] = PLANS,
        rounds: tuple[Finetuning, ...] = ROUNDS,
        log: Log = print,
    ) -> None:
        self.folder, self.log = folder, log
        self.shape = Shape() if shape is None else shape
        self.stages, self.plans, self.rounds = tuple(stages), plans, rounds
        self.corpus = Corpus(load_world() if world is None else world)

    def steps(self) -> dict[str, Callable[[], None]]:
        """Return the steps of the build by name, in order."""
        training = {stage.name: self._trainer(i) for i, stage in enumerate(self.stages)}
        return training | {
            "transcoders": self.sparsify,
            "describe": self.describe,
            "evaluate": self.evaluate,
        }

    def run(self, first: str | None = None) -> None:
        """Run all steps, or all from `first` on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        check_writable(self.folder / "report.json", _BYTES)
        names = list(self.steps())
        start = 0 if first is None else names.index(first)
        begun = time.monotonic()
        for name in names[start:]:
            self.log(f"== {name}")
            self.steps()[name]()
            self.log(f"== {name} done after {time.monotonic() - begun:.0f} s in all")

    def train(self, number: int) -> None:
        """Train one stage on from the one before, and save it."""
        stage = self.stages[number]
        if number == 0:
            torch.manual_seed(INITIAL_SEED)
            model = new_model(len(self.corpus.words), self.shape)
        else:
            before = self._stage_folder(self.stages[number - 1])
            model = LlamaForCausalLM.from_pretrained(
                before, dtype=torch.float32, attn_implementation="eager"
            )
        train_stage(model, self.shape, self.corpus, stage, log=self.log)
        with replacing_folder(self._stage_folder(stage)) as beside:
            model.save_pretrained(beside)
        if number == len(self.stages) - 1:
            with replacing_folder(self.folder / "model") as beside:
                model.save_pretrained(beside)
                tokenizer = build_tokenizer(self.corpus.words, self.corpus.names)
                tokenizer.save_pretrained(beside)

    def sparsify(self) -> None:
        """Train the transcoders of the finished model."""
        model = load_model(self.folder / "model")
        transcoders = train_transcoders(model, self.corpus, self.plans, self.rounds, log=self.log)
        save_transcoders(transcoders, self.folder / "transcoders")

    def describe(self) -> None:
        """Find concepts and labels; list the held-out cities."""
        model = load_model(self.folder / "model")
        transcoders = load_transcoders(self.folder / "transcoders")
        samples = collect(model, self.corpus)
        concepts, say_share = find_concepts(model, transcoders, self.corpus, samples)
        self.log(f"{len(concepts)} concepts; share for “say X” {say_share}")
        _write(self.folder / "concepts.json", {n: _entry(c) for n, c in concepts.items()})
        rounded = read_concepts(self.folder / "concepts.json")
        labels = find_labels(transcoders, samples, self.corpus, rounded)
        by_layer: dict[str, dict[str, str]] = {}
        for (layer, index), label in labels.items():
            by_layer.setdefault(str(layer), {})[str(index)] = label
        _write(self.folder / "labels.json", by_layer)
        _write(self.folder / "held_out.json", sorted(self.corpus.world.held_out))

    def evaluate(self) -> None:
        """Measure everything; write `report.json`."""
        report = evaluate.evaluate(self.folder)
        _write(self.folder / "report.json", report)
        self.log(evaluate.card(report))

    def _trainer(self, number: int) -> Callable[[], None]:
        return lambda: self.train(number)

    def _stage_folder(self, stage: Stage) -> Path:
        return self.folder / "stages" / stage.name


def main() -> None:
    """Build the model from the command line."""
    names = [*(stage.name for stage in STAGES), "transcoders", "describe", "evaluate"]
    parser = argparse.ArgumentParser(description="Build the atlas model from its facts.")
    parser.add_argument("--output", type=Path, default=Path("atlas-build"), metavar="DIR")
    parser.add_argument(
        "--stage", choices=names, help="start here, from what an earlier run left in DIR"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # more threads than this are slower on models this small
    Build(arguments.output).run(arguments.stage)


def _entry(concept: Concept) -> dict[str, Any]:
    return {"kind": concept.kind, "features": [list(feature) for feature in concept.features]}


def _write(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
