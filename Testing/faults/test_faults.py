"""A fault at any moment of any command loses nothing, and nothing half-made is taken for whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from Testing.conftest import ROOT
from Testing.faults.commands import COMMANDS

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="commands run in forked processes, on a disk that is mounted"),
    pytest.mark.timeout(1800),
]
ROOT_ONLY = ("full", "rights")  # a disk is mounted and rights are given up
FAULTS = ("kill", *(ROOT_ONLY if sys.platform == "linux" and os.geteuid() == 0 else ()))
SOME = ("series again", "batch", "train autoencoder")


def meets(faults: Sequence[str], only: Sequence[str], trials: int) -> str:
    """What ``Testing.faults.trials`` says in the end."""
    words = ["--fault", *faults, "--only", ",".join(only), "--trials", str(trials)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "Testing.faults.trials", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if not line.endswith(" s")]
    return "\n".join(lines) + done.stderr[-2000:]


@pytest.mark.parametrize("some", [SOME, pytest.param(("slices",), marks=pytest.mark.slow)])
def test_a_command_that_met_a_kill_a_full_disk_or_lost_rights_says_so_and_is_done_by_the_next_start(
    some: Sequence[str],
) -> None:
    trials = len(some) * len(FAULTS)
    assert meets(FAULTS, some, trials) == f"0 problems in {trials} trials"


@pytest.mark.slow
def test_every_command_that_was_killed_is_done_by_the_next_start() -> None:
    """Of a worker's own parent by hand: it takes as long as all others."""
    names = [command.name for command in COMMANDS if "worker" not in command.name]
    assert meets(["kill"], names, len(names)) == f"0 problems in {len(names)} trials"


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced() -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    assert meets(["worker"], ["volumes by a worker"], 1) == "0 problems in 1 trials"
