"""What is trained: autoencoder, image encoder, Vision Embedder, a denoiser of any backbone or the regression, decoders.

:func:`make_task` finds everything that is wrong with an experiment before any long work begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from DiffMaCore.errors import DiffMaError, InputError, ModelError, OutputError
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.presets import check_patch
from DiffMaCore.progress import Reporter
from DiffMaCore.training.batches import spread_batch
from DiffMaCore.training.cache import PairedCache, ensure_embeddings
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.run_folder import RunFolder, read_trained
from DiffMaCore.training.task import Task
from DiffMaCore.training.tasks.contrast import EmbedderTask, ImageEncoderTask
from DiffMaCore.training.tasks.denoiser import DenoiserTask
from DiffMaCore.training.tasks.images import AutoencoderTask, GuidedDecoderTask, RegressionTask, SmallDecoderTask
from DiffMaCore.training.trainer import make_accelerator, train

Part = Literal["autoencoder", "image-encoder", "embedder", "denoiser", "guided-decoder", "small-decoder"]
PARTS: tuple[Part, ...] = get_args(Part)
"""What can be trained, in the order in which it is."""


def config_of(experiment: Experiment, what: Part) -> Any:
    """The part of the configuration; its ``train`` says for how long."""
    return getattr(experiment, what.replace("-", "_"))


def folder_of(experiment: Experiment, folders: Folders, what: Part) -> Path:
    """The folder of the run."""
    return folders.system(experiment.denoiser.backbone) if what == "denoiser" else folders.part(what.replace("-", "_"))


def train_part(
    experiment: Experiment,
    folders: Folders,
    what: Part,
    reporter: Reporter,
    device: str = "auto",
    command: Sequence[str] = (),
) -> Path:
    """Train one of :data:`PARTS`; returns the run's folder.

    Goes on where it stopped, and trains nothing that is trained already. Every process of a launch calls it.
    ``command`` are the words that started this, for run.json.

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


def make_task(
    what: Part,
    experiment: Experiment,
    folders: Folders,
    reporter: Reporter | None = None,
    device: str | torch.device = "auto",
) -> Task:
    """The task, its model with the starting weights that the experiment's seed gives.

    "denoiser" is the model that ``experiment.denoiser.backbone`` names. The embedder's answers, which are computed
    once, are computed on ``device``.

    Raises:
        InputError: no data, data of another configuration, sizes that do not fit, or a network that comes before it
            is not trained yet.
    """
    reporter, place = reporter or Reporter(), device if isinstance(device, str) else device.type
    cache = PairedCache.open(folders.data)
    cache.require(experiment.data)
    given = experiment, folders, cache
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        if what == "autoencoder":
            return AutoencoderTask(*given)
        if what == "image-encoder":
            return ImageEncoderTask(*given)
        _require_sizes(experiment, cache)
        if what == "embedder":
            return EmbedderTask(*given, reporter, place)
        if what == "small-decoder":
            return SmallDecoderTask(*given)
        if what == "denoiser" and experiment.denoiser.backbone == "regression":
            return RegressionTask(*given)
        embedder = _load_embedder(*given)
        if what == "guided-decoder":
            return GuidedDecoderTask(*given, _load_denoiser(experiment, folders), embedder)
        fresh = experiment.data.heads is not None
        return DenoiserTask(*given, embedder, None if fresh else ensure_embeddings(cache, embedder, reporter, place))


def _load_denoiser(experiment: Experiment, folders: Folders) -> DiffMa:
    if not experiment.denoiser.mean_share or experiment.denoiser.ct_conditioning != "pixels":
        raise InputError("a guided decoder needs a denoiser with a mean_share and ct_conditioning: pixels")
    denoiser = read_trained(folders.system("diffma"), DiffMa)
    if denoiser is None:
        raise InputError(f"there is no trained DiffMa in {folders.system('diffma')}; run `diffma train denoiser` first")
    return denoiser


def _load_embedder(experiment: Experiment, folders: Folders, cache: PairedCache) -> VisionEmbedder:
    """The pre-trained embedder; InputError where there is none yet, or one of other sizes."""
    embedder = read_trained(folders.embedder, VisionEmbedder)
    if embedder is None:
        raise InputError(
            f"there is no Vision Embedder in {folders.embedder}; run `diffma train embedder` with the same"
            " configuration first"
        )
    wanted = (cache.latent_shape[1], experiment.denoiser.patch_size, cache.embed_dim)
    found = tuple(embedder.config[key] for key in ("latent_size", "patch_size", "width"))
    if found != wanted:
        raise InputError(
            f"the Vision Embedder in {folders.embedder} is for latent size, patch size and width"
            f" {found}, and the experiment has {wanted}; run `diffma train embedder` with a new --out"
        )
    return embedder


def _require_sizes(experiment: Experiment, cache: PairedCache) -> None:
    config = experiment.denoiser
    try:
        check_patch(cache.latent_shape[1], config.patch_size)
    except ValueError as problem:
        raise InputError(f"denoiser.patch_size: {problem}") from None
    if config.width != cache.embed_dim:
        raise InputError(
            f"denoiser.width is {config.width} and the image encoder's embeddings have {cache.embed_dim} numbers, which"
            f" are added; set denoiser.width to {cache.embed_dim}, or prepare with another parts.image_encoder"
        )
