"""A trained denoiser in, the bundle out that `diffma convert` and the Slicer module take as it is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderTiny
from torch import nn

from DiffMaCore import __version__
from DiffMaCore.baselines.registry import TITLES
from DiffMaCore.baselines.unet import UNetDenoiser
from DiffMaCore.bundles.config import GUIDED_DECODER, SMALL_DECODER, BundleConfig, FeatureRange, ModelCard
from DiffMaCore.bundles.writing import RELIABILITY_FILE
from DiffMaCore.diffusion.schedulers import make_scheduler
from DiffMaCore.errors import InputError
from DiffMaCore.files import alone_in, read_facts, replacing_folder, write_json
from DiffMaCore.imaging.source import percentile_normalisation
from DiffMaCore.imaging.training_range import FEATURES, features, ranges
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.guided_decoder import GuidedDecoder
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import CT, PairedCache
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.fresh import OPTIONS, VolumeMaker, fresh_spec
from DiffMaCore.training.pictures import modality
from DiffMaCore.training.run_folder import RunFolder, read_summary, read_trained
from DiffMaCore.training.sources.heads import MR_RANGE

DENOISER = "denoiser"
"""Its folder among several networks."""
DESCRIBED = 90
"""So many of the training's rendered CTs tell what it was trained on: the first ones, where none are measured yet."""


def model_title(backbone: str) -> str:
    """A model's name outside the table of the paper."""
    return TITLES[backbone].removesuffix(" (ours)")


def bundle_config(
    experiment: Experiment,
    cache: PairedCache,
    backbone: str,
    trained: str,
    contrast: int = 0,
    trained_on: Mapping[str, tuple[float, float]] | None = None,
) -> BundleConfig:
    """What the bundle says about itself; ``trained`` tells for how long it was, ``trained_on`` the range of each
    feature of the training's CTs, where it is known. "{contrast}" in the experiment's title is replaced."""
    data, card, several = cache.data, experiment.card, len(cache.data.targets) > 1
    target = modality(data.targets[contrast])
    percentiles = percentile_normalisation(*data.mr_percentiles)
    makes_ct = data.target == CT
    by_volume, (low, high) = not makes_ct and data.heads is None, data.target_window if makes_ct else MR_RANGE
    made = f"{trained}, seed {experiment.seed}, data {cache.fingerprint[:12]}"
    return BundleConfig(
        name=_bundle_name(experiment, backbone, contrast),
        title=f"{experiment.title.replace('{contrast}', target)}, {model_title(backbone)}",
        source_modality=modality(data.source),
        target_modality=target,
        source_normalisation=None if data.source == CT else percentiles,
        mr_normalisation=percentiles if by_volume else {"method": "window", "low": low, "high": high},
        output_range=data.target_window if makes_ct else data.output_range,
        output_units="HU" if makes_ct else f"arbitrary {target} intensity",
        modes=("mean", "sample") if experiment.denoiser.mean_share else ("sample",),
        neighbour_distance=data.neighbour_distance if experiment.denoiser.ct_conditioning == "pixels" else None,
        training_range=tuple(FeatureRange(name, range) for name, range in (trained_on or {}).items()),
        family=_bundle_name(experiment, backbone, 0) if several else "",
        card=ModelCard(
            source=f"Trained with `diffma train denoiser`, DiffMa {__version__}: {made}.",
            **{key: getattr(card, key) for key in ("training_data", "licence", "limits", "version", "measured")},
        ),
        **{f"image_encoder_{key}": cache.manifest["parts"]["image_encoder"][key] for key in ("mean", "std")},
        **{key: getattr(data, key) for key in ("anatomy", "image_size", "pixel_spacing", "hu_windows")},
        **{
            key: getattr(experiment, key)
            for key in ("demo", "uncertainty_scale", "error_scale", "grid_shift", "mirrored", "slice_smoothing")
        },
    )


def _bundle_name(experiment: Experiment, backbone: str, contrast: int) -> str:
    """The experiment's name and the model's, of several contrasts without "diffma", and all but the first."""
    targets = experiment.data.targets
    own = "" if len(targets) > 1 and backbone == "diffma" else f"-{backbone}"
    return f"{experiment.name}{own}" + (f"-{targets[contrast]}" if contrast else "")


def write_bundles(experiment: Experiment, folders: Folders, cache: PairedCache) -> list[Path]:
    """The bundles of a trained model, one a contrast: ``bundle/`` in its folder, and ``bundle-<contrast>/`` of the
    others, with the decoders that were trained for it. Raises InputError where it is not trained, or where there is no
    ``card.reliability``."""
    backbone, plot = experiment.denoiser.backbone, experiment.card.reliability
    if plot and not Path(plot).is_file():
        raise InputError(f"card.reliability: there is no {plot}; draw it with `diffma evaluate`, or leave the key out")
    folder = folders.system(backbone)
    with alone_in(folders.root / "bundles", Reporter()):  # two decoders may be trained at once
        trained, joint = f"{_steps(folder)} steps", folders.part("joint")
        if experiment.denoiser.begin_from:
            trained += f" from the weights of {Path(experiment.denoiser.begin_from).name}"
        together = backbone == "diffma" and _trained_jointly(folders)
        if together:
            network = read_trained(joint, DiffMa, DENOISER)
        else:
            network = read_trained(folder, UNetDenoiser if backbone == "unet" else DiffMa)
        embedder = read_trained(folders.embedder, VisionEmbedder)
        if network is None or embedder is None:
            raise InputError(f"there is no trained model in {folder}; run `diffma train denoiser` first")
        classes = {GUIDED_DECODER: GuidedDecoder, SMALL_DECODER: AutoencoderTiny} if backbone == "diffma" else {}
        decoders = {name: read_trained(folders.part(name), cls) for name, cls in classes.items()}
        if together:
            decoders[GUIDED_DECODER] = read_trained(joint, GuidedDecoder, GUIDED_DECODER)
            trained += f" and {_steps(joint)} together with its guided decoder"
        trained_on = training_range(experiment, folders, cache)
        written = []
        for contrast, word in enumerate(cache.data.targets):
            denoiser = network.for_contrast(contrast) if len(cache.data.targets) > 1 else network
            pipe = build_pipeline(
                experiment, cache, embedder, denoiser, backbone, trained, contrast, trained_on, **decoders
            )
            target = folder / ("bundle" if contrast == 0 else f"bundle-{word}")
            with replacing_folder(target) as part:
                if plot:
                    shutil.copyfile(plot, part / RELIABILITY_FILE)
                modules = [module for module in pipe.components.values() if isinstance(module, nn.Module)]
                for module in modules if experiment.bundle_precision == "float16" else ():
                    module.half()
                pipe.save_pretrained(part)
                for module in modules:
                    module.float()
            written.append(target)
        return written


def begun_from(folders: Folders) -> dict[str, int]:
    """Steps of the trainings that a joint one goes on from."""
    return {DENOISER: _steps(folders.system("diffma")), GUIDED_DECODER: _steps(folders.part(GUIDED_DECODER))}


def _trained_jointly(folders: Folders) -> bool:
    """Whether a joint training has ended that began from denoiser and guided decoder as they are now."""
    return read_summary(folders.part("joint")).get("begun_from") == begun_from(folders)


def _steps(folder: Path) -> int:
    return int(RunFolder(folder).account().get("step", 0))


def training_range(experiment: Experiment, folders: Folders, cache: PairedCache) -> dict[str, tuple[float, float]]:
    """The range of each feature over the first rendered CTs of a training; {} where no heads are rendered.

    What was measured stays in ``training_range.json`` of the data, so that an interrupted run goes on.
    """
    if experiment.data.heads is None:
        return {}
    path = folders.data / "training_range.json"
    key = {"fingerprint": cache.fingerprint, "features": list(FEATURES), "rendered": str(OPTIONS)}
    kept = read_facts(path)
    measured = kept["measured"] if {name: kept.get(name) for name in key} == key else []
    maker = VolumeMaker(fresh_spec(experiment, folders, cache.fingerprint, encoded=False))
    for volume in range(len(measured), DESCRIBED):
        measured.append(features(maker.render(volume).ct_image()))
        write_json(path, {**key, "measured": measured})
    return ranges(measured[:DESCRIBED])


def build_pipeline(
    experiment: Experiment,
    cache: PairedCache,
    embedder: VisionEmbedder,
    denoiser: nn.Module,
    backbone: str,
    trained: str = "0 steps",
    contrast: int = 0,
    trained_on: Mapping[str, tuple[float, float]] | None = None,
    **decoders: Any,
) -> DiffMaPipeline:
    """Everything that inference needs, on the CPU: the trained networks and the cache's parts."""
    return DiffMaPipeline(
        denoiser=denoiser,  # type: ignore[arg-type]  # any system of models.systems
        embedder=embedder,
        vae=cache.load_vae(),
        image_encoder=cache.load_image_encoder(),
        scheduler=make_scheduler(prediction_type=experiment.denoiser.prediction_type),
        bundle=bundle_config(experiment, cache, backbone, trained, contrast, trained_on).to_dict(),
        **decoders,
    )
