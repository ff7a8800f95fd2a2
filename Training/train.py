"""Training without an installed ``diffma``: a part of an experiment, or the demo bundle's own chain.

python Training/train.py embedder --config Training/brain.yaml     as `diffma train embedder`
python Training/train.py denoiser --config Training/brain.yaml     as `diffma train denoiser`
python Training/train.py demo --config Training/demo.yaml --out FOLDER
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from pathlib import Path

PARTS = ("embedder", "denoiser")


def main(words: list[str]) -> int:
    """What the first word says; returns the exit status."""
    if words and words[0] in PARTS:
        from DiffMaCore.cli.main import main as diffma

        return diffma(["train", *words])
    return demo(_parser().parse_args(words))


def demo(options: argparse.Namespace) -> int:
    """The chain that made the demo bundle, from phantoms to the bundle, and what belongs to it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    from DiffMaCore.pipeline import DiffMaPipeline
    from DiffMaCore.training.configuring import load_config
    from DiffMaCore.training.demo import chain
    from DiffMaCore.training.demo.config import DemoConfig

    config = load_config(options.config, DemoConfig)
    if options.command == "demo":
        chain.train(config, options.out)
    elif options.command == "small-decoder":
        chain.add_small_decoder(config, options.out, options.bundle)
    elif options.command == "export":
        chain.bundle_from_checkpoint(config, options.out, options.bundle)
    else:
        pipe = DiffMaPipeline.from_pretrained(options.bundle)
        found = chain.evaluate_on_phantoms(pipe, config, config.data.held_out, options.every)
        print(json.dumps(dataclasses.asdict(found), indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train a part of an experiment, or the demo bundle. Research only.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in PARTS:
        commands.add_parser(name, add_help=False, help=f"as `diffma train {name}`")
    for name, text in (
        ("demo", "the demo bundle: train all stages on procedural phantoms; goes on where it was interrupted"),
        ("export", "the demo bundle: write it from a run whose denoiser is still training"),
        ("small-decoder", "the demo bundle: teach a finished one its small decoder, and write both to OUT/bundle"),
        ("evaluate", "the demo bundle: compare it with the two simple answers on held-out phantoms"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", type=Path, default=Path(__file__).parent / "demo.yaml")
        command.add_argument("--out", type=Path, required=True, help="folder of the run")
        if name != "demo":
            command.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
        if name == "evaluate":
            command.add_argument("--every", type=int, default=1, help="use every N-th slice only")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
