"""Interrupts at random moments of passes, attributions and interventions on the embedded model.

    python tests/fuzz/interrupts.py --signals 10000 --lines 2000 --seed 0

`--signals` raises KeyboardInterrupt from a timer's signal, as a notebook's stop button does;
`--lines` raises it at a random line or call within the code that hangs hooks and takes them away,
where a timer seldom hits. After each, everything must be as before: the model's logits to the last
bit, the hooks on every module, whether gradients are kept, parts' training mode, and the model's
lock must be free. It prints what was left, by kind, and ends with status 1 if anything was.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from circuit_nb import Feature, Intervention, attribute, intervene, load

DALLAS = "Fact: the capital of the state containing Dallas is"
RISKY = ("circuit_nb/model/", "circuit_nb/intervention/hooks", "model_bridge/bridge_core",
         "torch/utils/hooks", "autograd/grad_mode", "contextlib.py")  # fmt: skip
"""Where hooks are hung and modes are set."""
NEVER = "model/lock.py"
"""A tracer can stop on the way out of `with lock:`, where the interpreter lets no signal in."""


class Subject:
    """A model, what is done with it, and what it was before."""

    def __init__(self, model: Any, prompt: str = DALLAS) -> None:
        self.model = model
        self.ids = model.tokenize(prompt)[None]
        graph = attribute(model, prompt, max_features=40, progress=False)
        some = [Feature(*row) for row in graph.features[[5, 20, -3]].tolist()]
        changes = [Intervention.scale(f, -1.0) for f in some]
        later = [Intervention.set(some[0], 2.0, from_position=4)]
        others = (prompt, prompt.replace("Dallas", "Oakland"))

        def intervened(freeze: Any) -> Callable[[], object]:
            return lambda: intervene(model, prompt, changes, freeze=freeze, watch=some)

        self.actions: dict[str, Callable[[], object]] = {
            "record": lambda: [model.record(p) for p in others],
            "attribute": lambda: attribute(model, others[1], max_features=40, progress=False),
            **{f"freeze {f}": intervened(f) for f in ("attention", "all", "none")},
            "generation": lambda: intervene(model, prompt, later, max_new_tokens=2),
        }
        for action in self.actions.values():
            action()
        bridge = model.bridge
        self.modules = list(dict.fromkeys([*bridge.modules(), *bridge.original_model.modules()]))
        self.before = self.state()

    def state(self) -> dict[str, Any]:
        """Everything that must be as it was."""
        hooks = [
            (i, tuple(m._forward_hooks), tuple(m._forward_pre_hooks))
            for i, m in enumerate(self.modules)
        ]
        listed = sum(len(getattr(m, "fwd_hooks", ())) for m in self.modules)
        modes = {
            "hooks": hooks,
            "listed hooks": listed,
            "gradients": torch.is_grad_enabled(),
            "inference mode": torch.is_inference_mode_enabled(),
            "training": [m.training for m in self.modules],
            "lock": self._lock_is_free(),
        }
        with torch.no_grad():
            modes["logits"] = self.model.bridge(self.ids, return_type="logits").numpy().tobytes()
        return modes

    def _lock_is_free(self) -> bool:
        lock = getattr(self.model, "lock", None)
        if lock is None:
            return True
        found: list[bool] = []

        def take() -> None:
            taken = lock.acquire(timeout=1)
            found.append(taken)
            if taken:
                lock.release()

        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
        return found[0]

    def left(self) -> list[str]:
        """What is not as it was, by name."""
        now = self.state()
        return [name for name, value in self.before.items() if now[name] != value]

    def tidy(self) -> None:
        """Take everything away by hand, so that the next interrupt is judged by itself."""
        for module, (_, hooks, before) in zip(self.modules, self.before["hooks"], strict=True):
            for held, known in (
                (module._forward_hooks, hooks),
                (module._forward_pre_hooks, before),
            ):
                for key in [key for key in held if key not in known]:
                    del held[key]
            if hasattr(module, "fwd_hooks"):
                module.fwd_hooks = []
        torch.set_grad_enabled(True)


@cache
def _is_risky(file: str) -> bool:
    return any(part in file for part in RISKY) and NEVER not in file


@contextmanager
def timer(seconds: float) -> Iterator[None]:
    """Raise KeyboardInterrupt after a time, once, by a signal."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


class Lines:
    """Raises KeyboardInterrupt at one of the lines and calls of risky code, counted from 0."""

    def __init__(self, stop: int | None) -> None:
        self.stop, self.count = stop, 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if not _is_risky(frame.f_code.co_filename):
            return None
        if event in ("line", "call"):
            self.count += 1
            if self.count - 1 == self.stop:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self

    def run(self, action: Callable[[], object]) -> None:
        """Run something while lines are counted."""
        old = sys.gettrace()
        sys.settrace(self)
        try:
            action()
        finally:
            sys.settrace(old)


def by_signals(subject: Subject, times: int, seed: int) -> Counter[str]:
    """What so many interrupts by signals left, by kind; those that came too late do not count."""
    chance, found = random.Random(seed), Counter[str]()
    lasts: dict[str, float] = {}
    for name, action in subject.actions.items():
        start = time.perf_counter()
        action()
        lasts[name] = time.perf_counter() - start
    while found["interrupted"] < times:
        name = chance.choice(list(subject.actions))
        found["runs"] += 1
        try:
            with timer(max(1e-5, chance.uniform(0, 1.1 * lasts[name]))):
                subject.actions[name]()
        except KeyboardInterrupt:
            found["interrupted"] += 1
        except (ValueError, RuntimeError, SystemError, TypeError):
            found["interrupted"] += 1  # PyTorch's own code took the interrupt for a bad argument
        _judge(subject, name, found)
    return found


def by_lines(subject: Subject, times: int, seed: int) -> Counter[str]:
    """What so many interrupts at lines of risky code left, by kind."""
    chance, found = random.Random(seed), Counter[str]()
    counts: dict[str, int] = {}
    for name, action in subject.actions.items():
        counted = Lines(None)
        counted.run(action)
        counts[name] = counted.count
    while found["interrupted"] < times:
        name = chance.choice(list(subject.actions))
        found["runs"] += 1
        try:
            Lines(chance.randrange(counts[name])).run(subject.actions[name])
        except KeyboardInterrupt:
            found["interrupted"] += 1
        _judge(subject, name, found)
    return found


def _judge(subject: Subject, name: str, found: Counter[str]) -> None:
    left = subject.left()
    for what in left:
        found[f"{what} left by {name}"] += 1
    if left:
        subject.tidy()


def main() -> None:
    """See the top."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signals", type=int, default=10_000)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # the model is small
    subject = Subject(load("atlas", device="cpu"))
    failed = False
    for name, run, times in (
        ("signals", by_signals, options.signals),
        ("lines", by_lines, options.lines),
    ):
        found = run(subject, times, options.seed)
        runs, interrupted = found.pop("runs"), found.pop("interrupted")
        print(f"{name}: {runs} runs, {interrupted} interrupted; left: {dict(found) or 'nothing'}")
        failed = failed or bool(found)
    sys.exit(failed)


if __name__ == "__main__":
    main()
