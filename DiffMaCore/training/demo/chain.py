"""The demo bundle: all stages in order on procedural phantoms, and how well the result does on unseen ones."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from numpy.typing import NDArray

from DiffMaCore.bundles.config import SMALL_DECODER, BundleConfig, ModelCard, read_config, read_index
from DiffMaCore.bundles.writing import class_entry, save_component, seal, write_index
from DiffMaCore.conditions import decode, encode, hu_to_pixels, mr_to_pixels
from DiffMaCore.metrics import Quality, quality
from DiffMaCore.models.denoiser import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.pipeline import DiffMaPipeline
from DiffMaCore.schedulers import DEFAULT_STEPS, make_scheduler
from DiffMaCore.training.demo.config import DemoConfig
from DiffMaCore.training.demo.data import Slices, make_phantoms, phantom_slices
from DiffMaCore.training.demo.denoiser import build_denoiser, make_latents, train_denoiser
from DiffMaCore.training.demo.embedder import slices_to_latents, train_embedder
from DiffMaCore.training.demo.image_encoder import train_image_encoder
from DiffMaCore.training.demo.small_decoder import train_small_decoder
from DiffMaCore.training.demo.vae import refine_decoder, train_vae
from DiffMaCore.training.soft_masks import mask_share

log = logging.getLogger("DiffMaCore.training")

_Model = TypeVar("_Model")


def bundle_config(config: DemoConfig) -> BundleConfig:
    """What the bundle says about itself."""
    return BundleConfig(
        name=config.name,
        title=config.title,
        anatomy=config.anatomy,
        image_size=config.data.image_size,
        pixel_spacing=config.data.pixel_spacing,
        hu_windows=config.hu_windows,
        mr_normalisation={
            "method": "percentile",
            "low": config.data.mr_low,
            "high": config.data.mr_high,
            "mask": "body",
        },
        output_range=config.output_range,
        output_units="arbitrary T1-weighted intensity",
        demo=True,
        card=ModelCard(**config.card),
    )


def train(config: DemoConfig, out: Path) -> DiffMaPipeline:
    """Train what is not yet in ``out/work`` and write the bundle to ``out/bundle``.

    A stage that was interrupted goes on from its checkpoint; a stage that is done is loaded.
    """
    torch.set_num_threads(config.threads)
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    width, windows, seed = config.denoiser.width, config.hu_windows, config.seed
    slices = make_phantoms(config.data, work / "phantoms")
    log.info("%d slices of %d phantoms", len(slices), config.data.phantoms)
    vae: Any = _stage(
        work / "vae", AutoencoderKL, lambda: train_vae(slices, windows, config.vae, seed, work / "vae.ckpt")
    )
    image_encoder = _stage(
        work / "image_encoder",
        ImageEncoder,
        lambda: train_image_encoder(slices, windows, width, config.image_encoder, seed),
    )
    latents = make_latents(slices, windows, vae, image_encoder, config.denoiser.pairs, seed, work / "latents.pt")
    embedder = _stage(
        work / "embedder",
        VisionEmbedder,
        lambda: train_embedder(latents.ct, config.denoiser.patch_size, width, config.embedder, seed),
    )
    log.info("share of the soft mask that follows the slice: %.3f", _mask_share(embedder, vae, slices, config))
    if not (work / "denoiser" / "config.json").is_file():
        denoiser, tuned = train_denoiser(latents, embedder, config.denoiser, seed, work / "denoiser.ckpt")
        tuned.save_pretrained(work / "embedder_tuned")
        denoiser.save_pretrained(work / "denoiser")
    denoiser = DiffMa.from_pretrained(work / "denoiser")
    embedder = VisionEmbedder.from_pretrained(work / "embedder_tuned")
    log.info("the same after training with the denoiser: %.3f", _mask_share(embedder, vae, slices, config))
    refined = _stage(work / "vae_refined", AutoencoderKL, lambda: refine_decoder(vae, slices, config.refine, seed))
    small = _small_decoder(config, refined, work)
    pipe = assemble(config, refined, image_encoder, embedder, denoiser, small)
    save_small(pipe, out / "bundle")
    return pipe


def add_small_decoder(config: DemoConfig, out: Path, bundle: Path) -> None:
    """Teach a finished bundle a small decoder and write it with one to ``out/bundle``; only its card's words, its
    index and its manifest differ."""
    torch.set_num_threads(config.threads)
    small = _small_decoder(config, DiffMaPipeline.from_pretrained(bundle).vae, out / "work")
    target = out / "bundle"
    shutil.copytree(bundle, target)
    save_component(target / SMALL_DECODER, small.half())
    described = replace(read_config(bundle), card=ModelCard(**config.card))
    write_index(target, read_index(target) | {"bundle": described.to_dict(), SMALL_DECODER: class_entry(small)})
    seal(target, described)


def _small_decoder(config: DemoConfig, vae: AutoencoderKL, work: Path) -> AutoencoderTiny:
    wanted = config.small_decoder
    work.mkdir(parents=True, exist_ok=True)

    def make() -> AutoencoderTiny:
        slices = make_phantoms(replace(config.data, phantoms=wanted.phantoms), work / "phantoms")
        return train_small_decoder(vae, slices, wanted, config.seed)

    return _stage(work / SMALL_DECODER, AutoencoderTiny, make)


def _stage(folder: Path, cls: Any, make: Callable[[], _Model]) -> _Model:
    """The finished model of a stage: loaded if it was trained before, else trained and saved."""
    if (folder / "config.json").is_file():
        return cls.from_pretrained(folder).eval().requires_grad_(False)
    model: Any = make()
    model.save_pretrained(folder)
    return model


def _mask_share(embedder: VisionEmbedder, vae: AutoencoderKL, slices: Slices, config: DemoConfig) -> float:
    return mask_share(embedder, slices_to_latents(vae, slices, config.hu_windows, 256))


def assemble(
    config: DemoConfig,
    vae: AutoencoderKL,
    image_encoder: ImageEncoder,
    embedder: VisionEmbedder,
    denoiser: DiffMa,
    small_decoder: AutoencoderTiny | None = None,
) -> DiffMaPipeline:
    """The trained parts as one pipeline."""
    scheduler = make_scheduler(prediction_type=config.denoiser.prediction_type)
    bundle = bundle_config(config).to_dict()
    return DiffMaPipeline(denoiser, embedder, vae, image_encoder, scheduler, bundle, small_decoder)


def save_small(pipe: DiffMaPipeline, target: Path) -> None:
    """Write a bundle with its weights in half precision, which load as float32; the pipeline's are rounded alike."""
    models = filter(None, (pipe.denoiser, pipe.embedder, pipe.vae, pipe.image_encoder, pipe.small_decoder))
    parameters = [p for model in models for p in model.parameters()]
    for p in parameters:
        p.data = p.data.half()
    pipe.save_pretrained(target)
    for p in parameters:
        p.data = p.data.float()


def bundle_from_checkpoint(config: DemoConfig, out: Path, target: Path) -> DiffMaPipeline:
    """A bundle out of a run that is still training its denoiser, with the averaged weights so far."""
    work = out / "work"
    refined = work / "vae_refined"
    denoiser = build_denoiser(config.denoiser, _latent_size(config))
    embedder = VisionEmbedder.from_pretrained(work / "embedder")
    state = torch.load(work / "denoiser.ckpt", weights_only=True)
    torch.nn.ModuleDict({"denoiser": denoiser, "embedder": embedder}).load_state_dict(state["ema"]["shadow"])
    log.info("denoiser after %d steps, %.1f minutes", state["loop"]["step"], state["loop"]["minutes"])
    pipe = assemble(
        config,
        AutoencoderKL.from_pretrained(refined if refined.is_dir() else work / "vae"),
        ImageEncoder.from_pretrained(work / "image_encoder"),
        embedder,
        denoiser,
    )
    save_small(pipe, target)
    return pipe


def _latent_size(config: DemoConfig) -> int:
    return config.data.image_size // 2 ** (len(config.vae.block_out_channels) - 1)


@dataclass(frozen=True)
class Comparison:
    """Mean figures over phantoms: the bundle, and two answers that need no model.

    ``linear``: the best linear function of the CT's windowed channels, fitted to the very MR it is judged
    by; ``mean``: that MR's mean. Both are as good as their kind can be. Data range 1 after normalisation.
    """

    ours: Quality
    linear: Quality
    mean: Quality
    vae: Quality  # the MR through the VAE and back: the most the bundle could reach
    small_to_full: Quality | None = None  # what the small decoder makes of the latents, to what the full one makes


def evaluate_on_phantoms(
    pipe: DiffMaPipeline, config: DemoConfig, seeds: Iterable[int], every: int = 1, steps: int = DEFAULT_STEPS
) -> Comparison:
    """Compare on unseen phantoms, inside the body, on every ``every``-th slice.

    ``seeds`` must not be trained on.
    """
    rows: list[list[Quality]] = []
    small_rows: list[Quality] = []
    low, high = pipe.bundle.output_range
    for seed in seeds:
        if seed in config.data.seeds:
            raise ValueError(f"phantom {seed} was trained on; evaluate on others")
        slices = phantom_slices(seed, config.data)
        ct, mr, body = (part[::every] for part in (slices.ct, slices.mr, slices.body))
        hu, target, inside = ct.float(), (mr.float().numpy() + 1) / 2, body.numpy()
        conditions = pipe.conditions(hu)
        latents = pipe.denoise(conditions, steps=steps)
        ours = (pipe.decode(latents).numpy() - low) / (high - low)
        if pipe.small_decoder is not None:
            small = (pipe.decode(latents, "small").numpy() - low) / (high - low)
            small_rows.append(_in_body(small, ours, inside))
        channels = hu_to_pixels(hu, pipe.bundle.hu_windows).numpy()
        answers = [ours, _linear_fit(channels, target, inside), np.full_like(target, target[inside].mean())]
        answers.append(_through_vae(pipe, mr.float()))
        rows.append([_in_body(answer, target, inside) for answer in answers])
    small_to_full = _average(tuple(small_rows)) if small_rows else None
    means = [_average(column) for column in zip(*rows, strict=True)]
    return Comparison(means[0], means[1], means[2], means[3], small_to_full)


def _in_body(answer: NDArray[Any], target: NDArray[Any], inside: NDArray[np.bool_]) -> Quality:
    # outside the body all answers are empty, as in what a user gets
    return quality(np.where(inside, answer, 0.0), np.where(inside, target, 0.0), 1.0, inside, axes=(-2, -1))


def _linear_fit(channels: NDArray[Any], target: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[Any]:
    features = np.concatenate([channels, np.ones_like(channels[:, :1])], axis=1).transpose(0, 2, 3, 1)
    weights, *_ = np.linalg.lstsq(features[inside].astype(np.float64), target[inside].astype(np.float64), rcond=None)
    return np.clip(features @ weights, 0.0, 1.0)


@torch.inference_mode()
def _through_vae(pipe: DiffMaPipeline, mr: torch.Tensor) -> NDArray[Any]:
    return (decode(pipe.vae, encode(pipe.vae, mr_to_pixels(mr))).numpy() + 1) / 2


def _average(column: tuple[Quality, ...]) -> Quality:
    names = ("mae", "mse", "psnr", "ssim")
    return Quality(**{name: float(np.mean([getattr(q, name) for q in column])) for name in names})
