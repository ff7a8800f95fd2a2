"""Jobs in, their outcomes out, as they end: done by the workers of a Dask cluster, or by this process one by one.

A worker does one job at a time. The job of a lost one is done by another; a job that loses its workers again and again
fails. Nothing of a job but its number reaches Dask's logs, since its arguments and errors may name a patient.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from DiffMaCore.errors import DiffMaError, Failure, InputError, explain
from DiffMaCore.progress import Reporter

T = TypeVar("T")

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Cluster:
    """Where workers are: "local", "slurm", or the address of a scheduler; and of the first two how many."""

    where: str
    workers: int | None = None


def outcome(job: Callable[[], T]) -> T | Failure:
    """What a job gives, or why it failed: even a defect of ours that one job brings to light does not end the others.

    Raises BrokenPipeError: the reader of our output has gone, which has nothing to do with the job.
    """
    try:
        return job()
    except BrokenPipeError:
        raise
    except Exception as error:
        return explain(error)


def outcomes(
    jobs: Sequence[Callable[[], T]], cluster: Cluster, reporter: Reporter
) -> Iterator[tuple[int, T | Failure]]:
    """Number and :func:`outcome` of every job, as they end; both are pickled, so only trusted schedulers are asked.

    Raises InputError: nobody answers at the address, or SLURM cannot be asked.
    """
    import distributed

    logging.getLogger("distributed").setLevel(logging.root.level)  # by itself it logs every connection
    with ExitStack() as stack:
        try:
            client = stack.enter_context(distributed.Client(_open(cluster, stack), set_as_default=False))
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"no workers can be had by --cluster {cluster.where} ({error}); give local, slurm (its settings are in"
                " ~/.config/dask/jobqueue.yaml), or the address that `dask scheduler` shows"
            ) from error
        reporter.note(f"dashboard of the cluster: {client.dashboard_link}; the work begins with its first worker")
        client.wait_for_workers(1)
        workers = client.scheduler_info()["workers"].values()
        gpu = {"GPU": 1} if all("GPU" in worker["resources"] for worker in workers) else None
        futures = {
            client.submit(_on_worker, job, Path.cwd(), key=f"job-{number}", pure=False, resources=gpu): number
            for number, job in enumerate(jobs)
        }
        for future in distributed.as_completed(list(futures), loop=client.loop):
            lost = future.exception()
            if isinstance(lost, distributed.KilledWorker):
                words = f"it lost {lost.allowed_failures + 1} workers"
                lost = DiffMaError(f"{words}; their memory may be too small: ask for fewer --workers")
            yield futures.pop(future), future.result() if lost is None else explain(lost)


def _open(cluster: Cluster, stack: ExitStack) -> Any:
    """The cluster that a client connects to: an address, or one that ends with the stack."""
    if cluster.where not in ("local", "slurm"):
        return cluster.where
    if cluster.where == "slurm":
        import dask.config
        from dask_jobqueue import SLURMCluster

        extra = [*dask.config.get("jobqueue.slurm.worker-extra-args", []), "--nthreads", "1"]
        jobs = stack.enter_context(SLURMCluster(processes=1, worker_extra_args=extra))
        jobs.adapt(minimum_jobs=cluster.workers or 1, maximum_jobs=cluster.workers or 1)  # a lost job is started anew
        return jobs
    import dask.config
    import torch
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    count = cluster.workers or torch.cuda.device_count() or 1
    threads = str(max(1, CPU_COUNT // count))
    # by LOCAL_WORLD_SIZE each takes its share of the memory, where Dask would end what takes more
    environment = {"LOCAL_WORLD_SIZE": str(count), **{name: os.environ.get(name, threads) for name in _THREADS}}
    own = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    # what Dask sets before it spawns stays set in this process, whose own threads it would bind
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}}):
        return stack.enter_context(LocalCluster(n_workers=count, env=environment, **own))


def _on_worker(job: Callable[[], T], folder: Path) -> T | Failure:
    """:func:`outcome`, relative paths beginning in ``folder``; workers of one machine take a GPU each."""
    from distributed import get_worker

    with _one_at_a_time:
        os.chdir(folder)
        os.environ.setdefault("LOCAL_RANK", str(get_worker().name))
        return outcome(job)
