"""The command line: `circuit-nb demo` and `circuit-nb attribute`.

Everything heavy is imported by the command that needs it, so that `--help` is instant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from circuit_nb.files import check_writable
from circuit_nb.hub.embedded import DEFAULT
from circuit_nb.version import __version__

if TYPE_CHECKING:
    from circuit_nb.graph import AttributionGraph
    from circuit_nb.model import ReplacementModel


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ValueError, OSError) as error:
        print(f"circuit-nb: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        needs_less = "out of memory; a shorter prompt or a lower --max-features needs less"
        print(f"circuit-nb: {str(error) or needs_less}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"\ncircuit-nb: {error or 'interrupted'}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="circuit-nb",
        description="Attribution graphs of language models: why it said that, and what if not.",
    )
    parser.add_argument("--version", action="version", version=f"circuit-nb {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="Dallas → Texas → Austin on the embedded model")
    demo.add_argument(
        "--output", type=Path, default=Path(), metavar="FOLDER", help="where to write (here)"
    )
    demo.set_defaults(command=_demo)

    attribute = commands.add_parser("attribute", help="the attribution graph of a prompt")
    attribute.add_argument("--prompt", required=True, help="the text to explain")
    attribute.add_argument("--model", default=DEFAULT, help=f"folder or Hub id ({DEFAULT})")
    attribute.add_argument("--transcoders", help="folder or Hub id (the model's default set)")
    attribute.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="a page to share (.html), a graph (.safetensors) or graph JSON (.json)",
    )
    attribute.add_argument(
        "--target", action="append", metavar="TOKEN", help="explain this token; may be repeated"
    )
    attribute.add_argument(
        "--max-features", type=int, default=5000, help="features kept, 0 for all (5000)"
    )
    attribute.add_argument(
        "--node-mass",
        type=float,
        metavar="SHARE",
        help="share of the influence whose nodes a page shows first (about 120 nodes')",
    )
    attribute.add_argument("--device", help="cuda, mps or cpu (the best there is)")
    attribute.add_argument(
        "--dtype", choices=["float32", "bfloat16"], help="of the weights (float32 if it fits)"
    )
    attribute.set_defaults(command=_attribute)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from circuit_nb.demo import run

    run(options.output)
    return 0


def _attribute(options: argparse.Namespace) -> int:
    output: Path = options.output
    writers = {".safetensors", ".html", ".json"}
    if output.suffix not in writers:
        raise ValueError(f"{output} ends in none of {', '.join(sorted(writers))}; give one.")
    if options.node_mass is not None and not 0 <= options.node_mass <= 1:
        raise ValueError(f"--node-mass is {options.node_mass}; give a share between 0 and 1.")
    check_writable(output)
    import torch

    from circuit_nb.analysis import scores
    from circuit_nb.attribution import attribute
    from circuit_nb.model import load

    model = load(
        options.model,
        options.transcoders,
        device=options.device,
        dtype=getattr(torch, options.dtype) if options.dtype else None,
    )
    graph = attribute(
        model, options.prompt, options.target, max_features=options.max_features or None
    )
    try:
        _write(graph, model, options)
    except (ValueError, MemoryError) as error:
        kept = graph.save(f"{output}.safetensors")
        raise ValueError(f"{error} What was computed is kept in {kept}.") from error
    result = scores(graph)
    for target, probability in zip(graph.targets, graph.target_probabilities, strict=True):
        print(f"{probability:7.1%}  {target!r}")
    print(f"{len(graph.features)} of {graph.n_active} active features")
    print(f"replacement {result.replacement:.3f}, completeness {result.completeness:.3f}")
    print(f"wrote {output}")
    return 0


def _write(graph: AttributionGraph, model: ReplacementModel, options: argparse.Namespace) -> None:
    """Write what was computed in the form that the output's name asks for."""
    output: Path = options.output
    if output.suffix == ".safetensors":
        graph.save(output)
    elif output.suffix == ".json":
        from circuit_nb import neuronpedia

        neuronpedia.write(graph, output)
    else:
        from circuit_nb import sharing
        from circuit_nb.panels.opening import opened

        session = opened(graph, model, None, None)
        if options.node_mass is not None:
            session.kept = options.node_mass
        page = sharing.page(session)
        print(page.contents)
        page.write(output)


if __name__ == "__main__":
    sys.exit(main())
