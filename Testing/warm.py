"""Processes that begin at once: forks of one that has imported torch and the trainer, and has computed nothing yet."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

IMPORTED = ["distributed", "DiffMaCore.inference.cohort", "Testing.heads", "Testing.training.trainer.tiny_run"]

WARM: Any = multiprocessing.get_context()
with suppress(ValueError):  # Windows has no such processes, and starts fresh ones
    WARM = multiprocessing.get_context("forkserver")
    WARM.set_forkserver_preload(IMPORTED)


def become_a_program(said: Path) -> None:
    """Lead a group of processes, be ended by Control-C, and write what is said to ``said``, complaints to ``.err``."""
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what was started in the background ignores it
    for console, path in ((sys.stdout, said), (sys.stderr, said.with_suffix(".err"))):
        with path.open("ab") as file:
            os.dup2(file.fileno(), console.fileno())


def diffma(said: Path, *words: object) -> None:
    """A command line as the whole of a process."""
    from DiffMaCore.cli.main import main

    become_a_program(said)
    sys.exit(main([str(word) for word in words]))
