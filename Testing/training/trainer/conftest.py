"""A tiny run as another process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from Testing.training.trainer.tiny_run import run_alone
from Testing.warm import WARM


@pytest.fixture(scope="module")
def start() -> Iterator[Any]:
    """Start a tiny run, ``start(folder, slow=0.1, both=True, steps=5)``; ``rank``: as this one of two processes."""
    started: list[Any] = []

    def run(folder: Path, *, port: int = 0, rank: int | None = None, **options: Any) -> Any:
        two = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        process = WARM.Process(target=run_alone, args=(folder, {} if rank is None else two | place), kwargs=options)
        process.start()
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.join()


def free_port() -> int:
    """Where the processes of one run can meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
