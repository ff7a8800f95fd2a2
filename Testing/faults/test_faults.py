"""A fault at any moment of any command loses nothing, and nothing half-made is taken for whole."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from Testing.conftest import ROOT
from Testing.faults.commands import COMMANDS

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="commands run in forked processes, on a disk that is mounted"),
    pytest.mark.timeout(1800),
]
ROOT_ONLY = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="a disk is mounted and rights are given up, which takes root"
)


def meets(fault: str, only: str, trials: int) -> str:
    """What ``Testing.faults.trials`` says in the end."""
    words = ["--fault", fault, "--only", only, "--trials", str(trials)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "Testing.faults.trials", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if not line.endswith(" s")]
    return "\n".join(lines) + done.stderr[-2000:]


def test_every_command_that_was_killed_is_done_by_the_next_start() -> None:
    """Of a worker's own parent by hand: it takes as long as all others."""
    names = [command.name for command in COMMANDS if "worker" not in command.name]
    assert meets("kill", ",".join(names), len(names)) == f"0 problems in {len(names)} trials"


@ROOT_ONLY
@pytest.mark.parametrize("fault", ["full", "rights"])
def test_a_disk_that_fills_up_and_rights_that_are_lost_end_in_a_sentence(fault: str) -> None:
    assert meets(fault, "series again,batch,slices,train autoencoder", 4) == "0 problems in 4 trials"


def test_a_worker_that_is_killed_is_replaced() -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    assert meets("worker", "volumes by a worker", 1) == "0 problems in 1 trials"
