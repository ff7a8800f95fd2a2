"""From an experiment to a trained embedder or system: the task that its configuration names, trained in its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from DiffMaCore.errors import DiffMaError, InputError, ModelError, OutputError
from DiffMaCore.progress import Reporter
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.run_folder import RunFolder
from DiffMaCore.training.spreading import spread_batch
from DiffMaCore.training.task import Task
from DiffMaCore.training.tasks import Part, config_of, folder_of, make_task
from DiffMaCore.training.trainer import make_accelerator, train


def train_part(
    experiment: Experiment,
    folders: Folders,
    what: Part,
    reporter: Reporter,
    device: str = "auto",
    command: Sequence[str] = (),
) -> Path:
    """Train one of ``tasks.PARTS``; returns the run's folder.

    Goes on where it stopped, and trains nothing that is trained already. Every process of a launch calls it.

    Args:
        device: as for :func:`~DiffMaCore.training.trainer.make_accelerator`.
        command: the words that started this, for run.json.

    Raises:
        InputError: no cache, no embedder yet, sizes or a batch that cannot be, or a run begun otherwise.
        OutputError, TrainingError, KeyboardInterrupt: as :func:`~DiffMaCore.training.trainer.train`.
    """
    config, path = config_of(experiment, what).train, folder_of(experiment, folders, what)
    accelerator = make_accelerator(device)
    spread_batch(config, accelerator.num_processes, whole_batch=what in ("embedder", "image-encoder"))
    talker = reporter if accelerator.is_main_process else Reporter()
    task = _first(accelerator, lambda: make_task(what, experiment, folders, talker, accelerator.device))
    try:
        train(task, config, RunFolder(path, asdict(experiment), command), experiment.seed, talker, accelerator)
    finally:
        close = getattr(task.dataset, "close", None)
        if close is not None:
            close()
    return path


def _first(accelerator: Accelerator, make: Callable[[], Task]) -> Task:
    """What ``make`` gives, on process 0 before the others, which then find what it computed; its error is theirs."""
    made: Task | None = None
    problem: DiffMaError | None = None
    if accelerator.is_main_process:
        try:
            made = make()
        except (InputError, ModelError, OutputError) as error:
            problem = error
    (problem,) = broadcast_object_list([problem])
    if problem is not None:
        raise problem
    return made if made is not None else make()
