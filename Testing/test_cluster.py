"""Jobs on the workers of a real Dask cluster: two processes of one thread each."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from DiffMaCore.cluster import Cluster, outcomes
from DiffMaCore.errors import Failure, InputError
from DiffMaCore.progress import Reporter

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

PATIENT = "SURNAME_FORENAME"


@dataclass(frozen=True, repr=False)
class Job:
    """Tells its process and folder, fails, or ends its worker, once or always."""

    kind: str
    folder: Path

    def __call__(self) -> tuple[int, str, str]:
        if self.kind == "fails":
            raise InputError(f"{PATIENT} is no CT; give another")
        if self.kind == "defect":
            raise TypeError(f"{PATIENT}: a defect")
        if self.kind == "kills" or (self.kind == "kills once" and not (self.folder / "killed").exists()):
            (self.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid(), str(Path.cwd()), os.environ["LOCAL_RANK"]


class Listener(Reporter):
    """Keeps the notes."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
    ):
        yield cluster.scheduler_address


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_jobs_fail_and_workers_die_alone_and_no_log_names_a_patient(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = ["fails", "kills once", "gives", "defect", "kills", "gives", "gives"]
    listener = Listener()
    told = dict(outcomes([Job(kind, tmp_path) for kind in kinds], Cluster(address), listener))
    assert sorted(told) == list(range(len(kinds)))
    failed, defect, lost = told[0], told[3], told[4]
    assert isinstance(failed, Failure) and failed.kind == "InputError" and PATIENT in failed.message
    assert isinstance(defect, Failure) and "in __call__" in defect.trace
    assert isinstance(lost, Failure) and "it lost 2 workers" in lost.message
    for number in (1, 2, 5, 6):
        outcome = told[number]
        assert not isinstance(outcome, Failure)
        pid, folder, rank = outcome
        assert pid != os.getpid() and Path(folder) == tmp_path and rank in ("0", "1")
    assert "http://127.0.0.1" in listener.notes[0]
    with distributed.Client(address, set_as_default=False) as client:
        logs = f"{client.get_scheduler_logs()} {client.get_worker_logs()} {client.get_events()}"
    said = capfd.readouterr()
    assert PATIENT not in logs + said.out + said.err


def test_workers_that_have_gpus_are_asked_for_one(tmp_path: Path) -> None:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=4, resources={"GPU": 1}, dashboard_address="127.0.0.1:0"
    ) as cluster:
        for _, told in outcomes([Job("gives", tmp_path)], Cluster(cluster.scheduler_address), Reporter()):
            assert not isinstance(told, Failure)
            assert [task.resource_restrictions for task in cluster.scheduler.tasks.values()] == [{"GPU": 1}]


def test_a_local_cluster_leaves_this_process_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # so that what it was before comes back at the end
    monkeypatch.delenv("OMP_NUM_THREADS")
    ((_, told),) = outcomes([Job("gives", tmp_path)], Cluster("local"), Reporter())
    assert not isinstance(told, Failure)
    assert "OMP_NUM_THREADS" not in os.environ


def test_an_address_where_nobody_answers_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(InputError, match="no workers"):
        list(outcomes([], Cluster("tcp://127.0.0.1:9"), Reporter()))


@pytest.mark.skipif(os.name == "nt", reason="a batch system's commands are shell scripts here")
def test_slurm_starts_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of ``sbatch`` starts the job script that SLURM would start elsewhere."""
    pytest.importorskip("dask_jobqueue")
    import dask

    commands = {
        "sbatch": f'cp "$1" {tmp_path}/script; bash {tmp_path}/script >/dev/null 2>&1 & echo Submitted batch job $!',
        "scancel": "kill $1",
    }
    for name, text in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    with pytest.raises(InputError, match=r"slurm.*jobqueue.yaml"):
        list(outcomes([], Cluster("slurm"), Reporter()))
    settings = {"cores": 4, "memory": "1GB", "interface": "lo", "job-extra-directives": ["--gres=gpu:1"]}
    with dask.config.set({f"jobqueue.slurm.{key}": value for key, value in settings.items()}):
        told = dict(outcomes([Job("gives", tmp_path)] * 3, Cluster("slurm", 1), Reporter()))
    assert len(told) == 3 and not any(isinstance(outcome, Failure) for outcome in told.values())
    script = (tmp_path / "script").read_text()
    assert "#SBATCH --gres=gpu:1" in script and "--nthreads 1" in script
