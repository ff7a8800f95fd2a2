"""From a trained denoiser to the bundle that `diffma convert` and the Slicer module take as it is."""

from __future__ import annotations

from torch import nn

from DiffMaCore import __version__
from DiffMaCore.bundles.config import BundleConfig, ModelCard
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.systems import TITLES
from DiffMaCore.pipeline import DiffMaPipeline
from DiffMaCore.schedulers import make_scheduler
from DiffMaCore.training.cache import CT, PairedCache
from DiffMaCore.training.experiment import Experiment
from DiffMaCore.training.triplets import modality
from DiffMaCore.volumes.source import percentile_normalisation

VERSION = "1"


def system_title(backbone: str) -> str:
    """A system's name outside the table of the paper."""
    return TITLES[backbone].removesuffix(" (ours)")


def bundle_config(experiment: Experiment, cache: PairedCache, backbone: str, steps: int) -> BundleConfig:
    """What the bundle says about itself; the preprocessing is that of the prepared data.

    Args:
        experiment: title, card and output.
        cache: the prepared data.
        backbone: the system.
        steps: that it was trained for.
    """
    data, card = cache.data, experiment.card
    percentiles = percentile_normalisation(*data.mr_percentiles)
    low, high = data.target_window
    makes_ct = data.target == CT
    return BundleConfig(
        name=f"{experiment.name}-{backbone}",
        title=f"{experiment.title}, {system_title(backbone)}",
        anatomy=data.anatomy,
        image_size=data.image_size,
        pixel_spacing=data.pixel_spacing,
        hu_windows=data.hu_windows,
        source_modality=modality(data.source),
        target_modality=modality(data.target),
        source_normalisation=None if data.source == CT else percentiles,
        mr_normalisation={"method": "window", "low": low, "high": high} if makes_ct else percentiles,
        output_range=data.target_window if makes_ct else data.output_range,
        output_units="HU" if makes_ct else f"arbitrary {modality(data.target)} intensity",
        image_encoder_mean=cache.image_encoder_mean,  # type: ignore[arg-type]  # three numbers, as BundleConfig checks
        image_encoder_std=cache.image_encoder_std,  # type: ignore[arg-type]
        demo=experiment.demo,
        card=ModelCard(
            training_data=card.training_data,
            licence=card.licence,
            limits=card.limits,
            source=(
                f"Trained with `diffma train denoiser`, DiffMa {__version__}: {steps} steps, seed {experiment.seed},"
                f" data {cache.fingerprint[:12]}."
            ),
            version=VERSION,
        ),
    )


def build_pipeline(
    experiment: Experiment,
    cache: PairedCache,
    embedder: VisionEmbedder,
    denoiser: nn.Module,
    backbone: str,
    steps: int = 0,
) -> DiffMaPipeline:
    """Everything that inference needs, on the CPU: the trained networks and the cache's parts."""
    return DiffMaPipeline(
        denoiser=denoiser,  # type: ignore[arg-type]  # any system of models.systems
        embedder=embedder,
        vae=cache.load_vae(),
        image_encoder=cache.load_image_encoder(),
        scheduler=make_scheduler(prediction_type=experiment.denoiser.prediction_type),
        bundle=bundle_config(experiment, cache, backbone, steps).to_dict(),
    )
