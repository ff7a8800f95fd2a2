"""Processes that begin at once: forks of one that has imported torch and the trainer, and has computed nothing yet."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress

IMPORTED = ["distributed", "DiffMaCore.inference.cohort", "Testing.heads", "Testing.training.trainer.tiny_run"]

WARM = multiprocessing.get_context()
with suppress(ValueError):  # Windows has no such processes, and starts fresh ones
    WARM = multiprocessing.get_context("forkserver")
    WARM.set_forkserver_preload(IMPORTED)
