"""Runs cases on the checkout that is the working directory; prints what was said, as JSON.

Each case has a process of its own, forked from one that has imported everything already, with a
time and a memory limit.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import random
import resource
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection

from registry import CASES, dallas_graph, said

MODULES = ("releases", "models", "interventions", "sets", "graphs", "disk", "explorer", "networks")
GIGABYTES = 6


def _child(do: Callable[[], object], pipe: Connection) -> None:
    random.seed(0)
    resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES * 2**30, GIGABYTES * 2**30))
    # What a case or another library prints is not what it says.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    try:
        text = str(do())
    except BaseException as error:
        text = said(error)
    pipe.send(text)
    pipe.close()
    os._exit(0)  # threads that hang stay behind


def run(do: Callable[[], object], seconds: float) -> str:
    """What a case says within its time."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(do, theirs))
    child.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            return f"hangs: stopped after {seconds:.0f} s"
        return ours.recv()
    except EOFError:
        return "the process died"
    finally:
        child.kill()
        child.join()


def main() -> None:
    """Print one JSON object a line: point, what is done, what was said, seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, nargs="*")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    import torch

    import circuit_nb.panels  # noqa: F401

    torch.set_num_threads(1)
    for module in MODULES:
        importlib.import_module(module)
    dallas_graph()  # loads everything, once for all
    for (point, does), do in sorted(CASES.items(), key=lambda item: item[0][0]):
        if options.only and point not in options.only:
            continue
        begun = time.monotonic()
        text = run(do, options.seconds)
        found = [point, does, text, time.monotonic() - begun]
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
