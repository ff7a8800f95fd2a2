"""A tiny run as another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def start():
    """Start tiny_run.py on a folder, ``start(folder, "--slow", "0.1", steps=5, processes=2)``."""
    started: list[subprocess.Popen] = []
    script = str(Path(__file__).with_name("tiny_run.py"))

    def run(folder: Path, *words: str, processes: int = 1, **config: Any) -> subprocess.Popen:
        launcher = [sys.executable]
        if processes > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        process = subprocess.Popen(
            [*launcher, script, str(folder), *words, "--config", json.dumps(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
