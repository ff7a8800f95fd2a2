"""What several kinds of ``diffma benchmark`` share: threads, the machine in words, and the file of figures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from DiffMaCore.errors import InputError, OutputError


def add_file_option(parser: argparse.ArgumentParser) -> None:
    """``--json FILE``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")


def check_files(*files: Path | None) -> None:
    """Raises OutputError, before anything is measured, for a file that is to go where no folder is."""
    for file in filter(None, files):
        if not file.parent.is_dir():
            raise OutputError(f"the folder of {file} does not exist; make it or choose another file")


def set_threads(threads: int | None) -> None:
    """Let torch run on so many threads, None: on as many as it likes; InputError for none."""
    if threads is None:
        return
    if threads < 1:
        raise InputError(f"{threads} threads cannot work; give at least 1 or leave --threads out")
    import torch

    torch.set_num_threads(threads)


def heading(figures: dict[str, Any]) -> list[str]:
    """The machine."""
    machine = figures["machine"]
    load = "" if machine["load_average"] is None else f", load {machine['load_average']:.1f}"
    return [
        f"{machine['processor']}, device {machine['device']}, {machine['threads']} threads{load}, "
        f"torch {machine['torch']}, Python {machine['python']}"
    ]


def write_figures(figures: dict[str, Any], file: Path | None) -> None:
    """To ``file``, where one is wanted; raises OutputError where it cannot be written."""
    if file is None:
        return
    try:
        file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{file} cannot be written ({error.strerror}); choose another file") from error
