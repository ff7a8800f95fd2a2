"""``--progress``: the same words for a person at a terminal and for a program that reads JSON lines."""

from __future__ import annotations

import argparse
import os
from typing import Any

from DiffMaCore.progress import JsonReporter, Reporter, TerminalReporter


def add_progress_option(parser: argparse.ArgumentParser) -> None:
    """``--progress bar|json``, for every command that a program may start."""
    parser.add_argument(
        "--progress",
        choices=("bar", "json"),
        default="bar",
        help="bar (default), or JSON lines on"
        " standard output: hello, stage, progress, note, warning, what is finished, result, error",
    )


def make_reporter(args: argparse.Namespace) -> Reporter:
    """The reporter that a command's options ask for; of several processes that train together one talks."""
    if rank() != 0:
        return Reporter()
    return JsonReporter(args.previews) if args.progress == "json" else TerminalReporter()


def rank(word: str = "RANK") -> int:
    """Number of this process among those that `accelerate launch` or torchrun started together; 0 where it is alone.

    ``word``: LOCAL_RANK for its number on this machine.
    """
    value = os.environ.get(word, "")
    return int(value) if value.isdigit() else 0


def silence_other_bars() -> None:
    """No bars of diffusers' beside ours, which says what goes on, and no warning of its own doing."""
    from diffusers.utils import logging

    logging.disable_progress_bar()
    # an AutoencoderTiny is saved with a setting that it does not know when it is loaded
    own = "'block_out_channels'", "were passed to AutoencoderTiny"
    logger = logging.get_logger("diffusers.configuration_utils")
    logger.addFilter(lambda record: not all(words in record.getMessage() for words in own))


def answer(args: argparse.Namespace, facts: dict[str, Any], text: str) -> None:
    """What a command has to say: a result event for a program, ``text`` for a person."""
    args.reporter.close()
    if args.progress == "json":
        args.reporter.result(**facts)
    elif text and rank() == 0:
        print(text)
