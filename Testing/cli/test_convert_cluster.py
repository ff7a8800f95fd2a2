"""``diffma convert`` and ``diffma prepare`` by the workers of a real Dask cluster: two processes of one thread each."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.cli.main import main
from Testing.images import write_heads
from Testing.warm import IMPORTED

dask = pytest.importorskip("dask", reason="the extra `cluster` is not installed")
distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

PATIENT = "SURNAME_FORENAME"


@pytest.fixture
def importing_once() -> Iterator[None]:
    """Workers are forked from a process that has imported torch."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        distributed.utils.get_mp_context().set_forkserver_preload(IMPORTED)
        yield


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A folder of four heads, and a file that is cut short."""
    folder = write_heads(tmp_path / "cohort", PATIENT)
    (folder / f"{PATIENT}_cut.mha").write_bytes((folder / f"{PATIENT}_0.mha").read_bytes()[:2000])
    return folder


def _of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_workers_volume_is_made_by_another_and_a_second_start_keeps_it(
    cohort: Path, tiny_bundle: Path, importing_once: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["convert", str(cohort), str(out), "--model", str(tiny_bundle), "--device", "cpu", "--steps", "60"]
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        killed: list[str] = []

        def kill() -> None:
            """End a worker that has a volume, once another has made one."""
            while not killed:
                working = {worker for worker, jobs in client.processing().items() if jobs}
                for nanny in cluster.workers.values() if list(out.glob("*.nii.gz")) else ():
                    if nanny.worker_address in working and not killed:
                        killed.append(nanny.worker_address)
                        os.kill(nanny.pid, signal.SIGKILL)
                time.sleep(0.1)

        def convert() -> list[dict[str, Any]]:
            assert main([*words, "--cluster", cluster.scheduler_address, "--progress", "json"]) == 1  # the cut one
            events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
            (summary,) = _of(events, "summary")
            assert summary["converted"] == 4 and "cut.mha" in summary["failed"][0]["input"]
            assert len(summary["failed"]) == len(_of(events, "error")) == 1
            return _of(events, "result")

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        first = convert()
        killer.join()
        results = sorted(out.iterdir())
        assert len(results) == 4  # and nothing half-written beside them
        for path in results:
            assert np.isfinite(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))).all()
        assert {event["output"] for event in first} == set(map(str, results))
        assert not any(event.get("kept") for event in first) or len(killed) == 1

        results[2].unlink()
        kept = {event["output"]: bool(event.get("kept")) for event in convert()}
        assert kept == {str(path): path != results[2] for path in results}
        logs = f"{client.get_scheduler_logs()} {client.get_worker_logs()} {client.get_events()}"
    assert PATIENT not in logs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cluster", "local"], "there is one"),
        (["--format", "mha", "--cluster", "tcp://127.0.0.1:1", "--workers", "2"], "its own workers"),
        (["--format", "mha", "--workers", "-1"], "-1 workers cannot work"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: list[str], said: str, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(cohort / f"{PATIENT}_0.mha"), str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_launchers_processes_are_told_of_the_cluster(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["convert", str(cohort), str(tmp_path / "out")]) == 2
    assert "--cluster local" in capsys.readouterr().err
