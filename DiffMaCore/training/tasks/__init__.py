"""What is trained: autoencoder, image encoder, Vision Embedder, a denoiser of any backbone or the regression, decoders.

:func:`make_task` finds everything that is wrong with an experiment before any long work begins.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from DiffMaCore.errors import InputError
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.presets import check_patch
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import PairedCache
from DiffMaCore.training.embeddings import ensure_embeddings
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.task import Task
from DiffMaCore.training.tasks.autoencoder import AutoencoderTask
from DiffMaCore.training.tasks.denoiser import DenoiserTask
from DiffMaCore.training.tasks.embedder import EmbedderTask
from DiffMaCore.training.tasks.guided_decoder import GuidedDecoderTask
from DiffMaCore.training.tasks.image_encoder import ImageEncoderTask
from DiffMaCore.training.tasks.regression import RegressionTask
from DiffMaCore.training.tasks.small_decoder import SmallDecoderTask

Part = Literal["autoencoder", "image-encoder", "embedder", "denoiser", "guided-decoder", "small-decoder"]
PARTS: tuple[Part, ...] = get_args(Part)
"""What can be trained, in the order in which it is."""


def config_of(experiment: Experiment, what: Part) -> Any:
    """The part of the configuration; its ``train`` says for how long."""
    return getattr(experiment, what.replace("-", "_"))


def folder_of(experiment: Experiment, folders: Folders, what: Part) -> Path:
    """The folder of the run."""
    return folders.system(experiment.denoiser.backbone) if what == "denoiser" else folders.part(what.replace("-", "_"))


def make_task(
    what: Part,
    experiment: Experiment,
    folders: Folders,
    reporter: Reporter | None = None,
    device: str | torch.device = "auto",
) -> Task:
    """The task, its model with the starting weights that the experiment's seed gives.

    Args:
        what: one of :data:`PARTS`; "denoiser" is the system that ``experiment.denoiser.backbone`` names.
        experiment: the whole configuration.
        folders: where its data and its other networks are.
        reporter: told while the embedder's answers are computed, which happens once.
        device: where they are computed: "auto", or a device.

    Raises:
        InputError: no data, data of another configuration, sizes that do not fit, or a network that comes before it
            is not trained yet.
    """
    reporter, place = reporter or Reporter(), device if isinstance(device, str) else device.type
    cache = PairedCache.open(folders.data)
    _require_same_data(experiment, cache)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        if what == "autoencoder":
            return AutoencoderTask(experiment, folders, cache)
        if what == "image-encoder":
            return ImageEncoderTask(experiment, folders, cache)
        _require_sizes(experiment, cache)
        if what == "embedder":
            return EmbedderTask(experiment, cache, reporter, place)
        if what == "small-decoder":
            return SmallDecoderTask(experiment, folders, cache)
        if what == "denoiser" and experiment.denoiser.backbone == "regression":
            return RegressionTask(experiment, folders, cache)
        embedder = load_embedder(experiment, folders, cache)
        if what == "guided-decoder":
            return GuidedDecoderTask(experiment, folders, cache, _load_denoiser(experiment, folders), embedder)
        fresh = experiment.data.heads is not None
        embeddings = None if fresh else ensure_embeddings(cache, embedder, reporter, place)
        return DenoiserTask(experiment, folders, cache, embedder, embeddings)


def _load_denoiser(experiment: Experiment, folders: Folders) -> DiffMa:
    folder = folders.system("diffma") / "model"
    if not experiment.denoiser.mean_share or experiment.denoiser.ct_conditioning != "pixels":
        raise InputError("a guided decoder needs a denoiser with a mean_share and ct_conditioning: pixels")
    if not (folder / "config.json").is_file():
        raise InputError(f"there is no trained DiffMa in {folder}; run `diffma train denoiser` first")
    denoiser: DiffMa = DiffMa.from_pretrained(folder, local_files_only=True)
    return denoiser.eval().requires_grad_(False)


def load_embedder(experiment: Experiment, folders: Folders, cache: PairedCache) -> VisionEmbedder:
    """The pre-trained embedder; InputError where there is none yet, or one of other sizes."""
    folder = folders.embedder / "model"
    if not (folder / "config.json").is_file():
        raise InputError(
            f"there is no Vision Embedder in {folders.embedder}; run `diffma train embedder` with the same"
            " configuration first"
        )
    embedder: VisionEmbedder = VisionEmbedder.from_pretrained(folder, local_files_only=True)
    wanted = (cache.latent_shape[1], experiment.denoiser.patch_size, cache.embed_dim)
    found = tuple(embedder.config[key] for key in ("latent_size", "patch_size", "width"))
    if found != wanted:
        raise InputError(
            f"the Vision Embedder in {folders.embedder} is for latent size, patch size and width"
            f" {found}, and the experiment has {wanted}; run `diffma train embedder` with a new --out"
        )
    return embedder.eval().requires_grad_(False)


def _require_same_data(experiment: Experiment, cache: PairedCache) -> None:
    asked, found = asdict(experiment.data), asdict(cache.data)
    changed = [key for key in asked if asked[key] != found[key]]
    if changed:
        key = changed[0]
        raise InputError(
            f"data.{key} is {asked[key]!r} in the configuration and {found[key]!r} in the prepared data {cache.folder};"
            " run `diffma prepare` again, or choose another --out"
        )


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
