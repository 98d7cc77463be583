"""What was wrong, and what happens now: every repair on two checkouts, as a Markdown table.

    python benchmarks/repairs OLD NEW > before_now.md

OLD and NEW are folders that hold the library at two commits, say of `git worktree add`. Each case
uses public names only, in a process of its own; one that is not back in time "hangs". Versions are
those of the Python that runs this: with the newest transformers, point 1 shows its defect.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHARACTERS = 200
Said = dict[tuple[int, str], str]


def run(checkout: Path, options: argparse.Namespace) -> Said:
    """What the cases say on a checkout."""
    command = [sys.executable, str(HERE / "worker.py"), "--seconds", str(options.seconds)]
    if options.only:
        command += ["--only", *map(str, options.only)]
    found: Said = {}
    with tempfile.TemporaryDirectory() as scratch:
        settings = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "TMPDIR": scratch}
        environment = {**os.environ, **settings}
        with subprocess.Popen(
            command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True
        ) as worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                point, does, text, seconds = json.loads(line)
                text = re.sub(rf"{scratch}/\w+|{checkout.resolve()}", "…", text)
                found[point, does] = text
                print(f"{checkout.name} {point} {does} ({seconds:.1f} s)", file=sys.stderr)
        if worker.returncode:
            raise SystemExit(f"{checkout}: the worker ended with status {worker.returncode}")
    return found


def cell(text: str) -> str:
    """A text as a table's cell: one line, no longer than a reader wants."""
    text = " ".join(text.split())
    text = text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
    for sign in "\\|<*_`[":
        text = text.replace(sign, "\\" + sign)
    return text


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", type=int, nargs="*", help="points, by number")
    parser.add_argument("--seconds", type=float, default=60, help="time of a case")
    options = parser.parse_args()
    before, now = (run(folder, options) for folder in (options.old, options.new))
    names = ("torch", "transformers", "transformer-lens", "huggingface-hub")
    print(", ".join(f"{name} {version(name)}" for name in names), end="\n\n")
    print("| point | what is done | before | now |\n|---|---|---|---|")
    for (point, does), text in now.items():
        old = before[point, does]
        print(f"| {point} | {cell(does)} | {cell(old)} | {cell(text)} |")


if __name__ == "__main__":
    main()
