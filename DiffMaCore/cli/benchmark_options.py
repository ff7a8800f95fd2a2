"""What every kind of ``diffma benchmark`` is told, does first, and does last."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from DiffMaCore.errors import InputError, OutputError

if TYPE_CHECKING:
    import torch


def add_benchmark_options(kind: argparse.ArgumentParser, rounds: int = 10) -> None:
    """``--device``, ``--threads``, ``--rounds`` and ``--json``."""
    kind.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1 or mps")
    kind.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    kind.add_argument("--rounds", type=int, default=rounds, help=f"rounds in which all take turns (default {rounds})")
    kind.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")


def add_size_options(kind: argparse.ArgumentParser, size: str = "B/2") -> None:
    """``--size`` and ``--image-size`` of what is measured."""
    kind.add_argument("--size", default=size, help=f"configuration of Table 1 (default {size})")
    kind.add_argument("--image-size", type=int, default=224, help="side of the slices in pixels (default 224)")


def begin(args: argparse.Namespace, keep_memory: bool = True) -> torch.device:
    """The device, with threads and memory as they were asked for.

    ``keep_memory``: as when it converts, freed memory is kept.

    Raises:
        InputError, OutputError, BackendError: threads, a file or a device that cannot be, before anything is measured.
    """
    import torch

    from DiffMaCore.devices import choose_device, keep_freed_memory

    if keep_memory:
        keep_freed_memory()
    device = choose_device(args.device)
    if args.threads is not None and args.threads < 1:
        raise InputError(f"{args.threads} threads cannot work; give at least 1 or leave --threads out")
    for file in filter(None, (args.json, getattr(args, "plot", None))):
        if not file.parent.is_dir():
            raise OutputError(f"the folder of {file} does not exist; make it or choose another file")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    return device


def write_figures(args: argparse.Namespace, figures: dict[str, Any]) -> None:
    """The figures as JSON where ``--json`` asks for them; raises OutputError."""
    if args.json is None:
        return
    try:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{args.json} cannot be written ({error.strerror}); choose another file") from error


def heading(figures: dict[str, Any]) -> list[str]:
    """The lines above a table: the machine, and what was measured."""
    machine, shape = figures["machine"], figures["shape"]
    load = "" if machine["load_average"] is None else f", load {machine['load_average']:.1f}"
    return [
        f"{machine['processor']}, device {machine['device']}, {machine['threads']} threads{load}, "
        f"torch {machine['torch']}, Python {machine['python']}",
        f"{figures['benchmark']}: {', '.join(f'{name} {value}' for name, value in shape.items())},"
        f" {figures['rounds']} rounds",
        "",
    ]
