"""``diffma benchmark decode``: what a small decoder saves."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from DiffMaCore.errors import InputError, OutputError

DESCRIPTION = """\
Decode latents with Stable Diffusion's VAE and with a small decoder (diffusers' AutoencoderTiny at its default size),
both with random weights and in both memory layouts, in turns. Told of each: seconds a slice, the time over that of the
full decoder in torch's usual layout, and over its own there. Says nothing of how good an image is."""

EPILOG = """\
examples:
  diffma benchmark decode                                   4 slices of 224 pixels: a minute or two on a CPU
  diffma benchmark decode --threads 2 --rounds 10 --json decode.json
  diffma benchmark decode --device cuda --batch 32"""


def add_decode_parser(kinds: argparse._SubParsersAction) -> None:
    """Add ``decode`` to the parsers of ``diffma benchmark``."""
    parser = kinds.add_parser(
        "decode",
        help="the small decoder against the VAE's, in both memory layouts",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--batch", type=int, default=4, help="slices (default 4)")
    parser.add_argument("--image-size", type=int, default=224, help="side of the slices in pixels (default 224)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1 or mps")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which all take turns (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print; raises InputError for impossible numbers."""
    import torch

    from DiffMaCore.devices import choose_device, keep_freed_memory

    keep_freed_memory()
    device = choose_device(args.device)
    if args.threads is not None:
        if args.threads < 1:
            raise InputError(f"{args.threads} threads cannot work; give at least 1 or leave --threads out")
        torch.set_num_threads(args.threads)
    if args.json is not None and not args.json.parent.is_dir():
        raise OutputError(f"the folder of {args.json} does not exist; make it or choose another file")

    from DiffMaCore.training.benchmark_decode import benchmark_decode

    figures = benchmark_decode(
        args.batch, args.image_size, device, args.rounds, lambda line: print(line, file=sys.stderr)
    )
    print(_table(figures))
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{args.json} cannot be written ({error.strerror}); choose another file") from error
    return 0


def _table(figures: dict[str, Any]) -> str:
    from DiffMaCore.cli.benchmark import heading

    millions = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in figures["parameters"].items())
    lines = [
        *heading(figures),
        f"parameters: {millions}",
        f"{'a slice':>34}{'of full':>10}{'min..max':>16}{'of contiguous':>15}{'difference':>12}",
    ]
    for row in figures["results"]:
        spread = f"{row['ratio_min']:.3f}..{row['ratio_max']:.3f}"
        lines.append(
            f"{row['contestant']:<24}{row['per_slice_s']:>8.4f} s{row['ratio']:>10.3f}{spread:>16}"
            f"{row['to_contiguous']:>15.3f}{row['difference']:>12.1e}"
        )
    return "\n".join([*lines, f"weights: {figures['weights']}"])
