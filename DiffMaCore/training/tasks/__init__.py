"""What is trained: autoencoder, image encoder, Vision Embedder, a denoiser of any backbone or the regression, decoders.

:func:`make_task` finds everything that is wrong with an experiment before any long work begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from DiffMaCore.bundles.config import GUIDED_DECODER
from DiffMaCore.errors import InputError
from DiffMaCore.files import alone_in
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.guided_decoder import GuidedDecoder
from DiffMaCore.progress import Reporter
from DiffMaCore.training.batches import spread_batch
from DiffMaCore.training.beginning import begin_from
from DiffMaCore.training.cache import PairedCache
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.parts import require_sizes
from DiffMaCore.training.run_folder import RunFolder, read_trained
from DiffMaCore.training.task import Task
from DiffMaCore.training.tasks.contrast import EmbedderTask, ImageEncoderTask
from DiffMaCore.training.tasks.denoiser import DenoiserTask
from DiffMaCore.training.tasks.images import AutoencoderTask, GuidedDecoderTask, RegressionTask, SmallDecoderTask
from DiffMaCore.training.tasks.joint import JointTask
from DiffMaCore.training.trainer import make_accelerator, train

Part = Literal["autoencoder", "image-encoder", "embedder", "denoiser", "guided-decoder", "joint", "small-decoder"]
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
    reporter = reporter if accelerator.is_main_process else Reporter()
    task = make_task(what, experiment, folders, reporter)
    try:
        with alone_in(path, reporter) if accelerator.is_main_process else nullcontext():
            train(task, config, RunFolder(path, asdict(experiment), command), experiment.seed, reporter, accelerator)
    finally:
        close = getattr(task.dataset, "close", None)
        if close is not None:
            close()
    return path


def make_task(what: Part, experiment: Experiment, folders: Folders, reporter: Reporter | None = None) -> Task:
    """The task, its model with the starting weights that the experiment's seed gives, or those of the bundle that it
    begins from.

    Raises InputError: no data, data of another configuration, sizes that do not fit, a network that comes before it is
    not trained yet, or a bundle that it cannot begin from.
    """
    task = _make(what, experiment, folders, reporter)
    bundle = getattr(config_of(experiment, what), "begin_from", "")
    if bundle:
        begin_from(task.model, bundle, what.replace("-", "_"))
    return task


def _make(what: Part, experiment: Experiment, folders: Folders, reporter: Reporter | None) -> Task:
    cache = PairedCache.open(folders.data)
    cache.require(experiment.data)
    given = experiment, folders, cache
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        if what == "autoencoder":
            return AutoencoderTask(*given)
        if what == "image-encoder":
            return ImageEncoderTask(*given)
        require_sizes(experiment, cache.latent_shape[1], cache.embed_dim)
        if what == "embedder":
            return EmbedderTask(*given, reporter or Reporter())
        if what == "small-decoder":
            return SmallDecoderTask(*given)
        if what == "denoiser" and experiment.denoiser.backbone == "regression":
            return RegressionTask(*given)
        embedder = _load_embedder(*given)
        if what in ("guided-decoder", "joint"):
            if not experiment.denoiser.mean_share or experiment.denoiser.ct_conditioning != "pixels":
                raise InputError("a guided decoder needs a denoiser with a mean_share and ct_conditioning: pixels")
            _require_levels(experiment, cache)
            denoiser = _trained(folders.system("diffma"), DiffMa, "denoiser")
            if what == "guided-decoder":
                return GuidedDecoderTask(*given, denoiser, embedder)
            decoder = _trained(folders.part(GUIDED_DECODER), GuidedDecoder, "guided-decoder")
            return JointTask(*given, denoiser, decoder, embedder)
        return DenoiserTask(*given, embedder)


def _require_levels(experiment: Experiment, cache: PairedCache) -> None:
    """Raise InputError where the guided decoder does not come from the latent's size to the slice's."""
    factor, levels = cache.data.image_size // cache.latent_shape[1], len(experiment.guided_decoder.channels)
    if 2 ** (levels - 1) != factor:
        raise InputError(
            f"guided_decoder.channels has {levels} levels, for slices {2 ** (levels - 1)} times as wide as the latents;"
            f" they are {factor} times as wide: give it {factor.bit_length()} levels"
        )


def _trained(folder: Path, cls: type, what: Part) -> Any:
    """What ``diffma train what`` left in ``folder``. Raises InputError where it is not trained."""
    network = read_trained(folder, cls)
    if network is None:
        raise InputError(f"there is no trained {cls.__name__} in {folder}; run `diffma train {what}` first")
    return network


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
