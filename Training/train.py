"""Entry point of training: ``python Training/train.py demo --config Training/demo.yaml --out FOLDER``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a DiffMa bundle. Research only.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("demo", "train all stages on procedural phantoms; goes on where it was interrupted"),
        ("export", "write a bundle from a run whose denoiser is still training"),
        ("evaluate", "compare a bundle with the two simple answers on held-out phantoms"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", type=Path, default=Path(__file__).parent / "demo.yaml")
        command.add_argument("--out", type=Path, required=True, help="folder of the run")
        if name != "demo":
            command.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
        if name == "evaluate":
            command.add_argument("--every", type=int, default=1, help="use every N-th slice only")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    from DiffMaCore.pipeline import DiffMaPipeline
    from DiffMaCore.training.configuring import load_config
    from DiffMaCore.training.demo import chain as demo
    from DiffMaCore.training.demo.config import DemoConfig

    config = load_config(options.config, DemoConfig)
    if options.command == "demo":
        demo.train(config, options.out)
    elif options.command == "export":
        demo.bundle_from_checkpoint(config, options.out, options.bundle)
    else:
        pipe = DiffMaPipeline.from_pretrained(options.bundle)
        found = demo.evaluate_on_phantoms(pipe, config, config.data.held_out, options.every)
        print(json.dumps(dataclasses.asdict(found), indent=2))


if __name__ == "__main__":
    main()
