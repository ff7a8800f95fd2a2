"""Our sampling against the procedure of the authors' released code: time of a slice, and distance to the ODE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import SimpleITK as sitk
import torch
from torch import Tensor

from benchmarks.networks import random_pipeline
from benchmarks.released_way import released_scan, released_way
from DiffMaCore.diffusion.conditions import Conditions
from DiffMaCore.diffusion.schedulers import DEFAULT_SCHEDULER, DEFAULT_STEPS, TRAIN_TIMESTEPS
from DiffMaCore.errors import InputError
from DiffMaCore.imaging.grid import SliceGrid
from DiffMaCore.imaging.phantom import head_phantom
from DiffMaCore.imaging.source import ready_source
from DiffMaCore.inference.benchmark import machine, spread, take_turns
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.presets import STABLE_DIFFUSION_VAE, VIT_B_16
from DiffMaCore.progress import Reporter

RELEASED_SCHEDULER, RELEASED_STEPS = "ddpm", 250
ODE_STEPS = TRAIN_TIMESTEPS  # of deterministic DDIM
TIMED_STEPS = 2
"""Steps of each procedure in a round: they cost the same, so that a whole procedure is a multiple of them."""

PHANTOM_SEED = 1  # the demo is trained on seeds from 1000 on
SLICES = 4
PARTS = ("conditions", "denoising", "decoding")


def benchmark_released(
    name: str = "B/2",
    batch: int = 8,
    image_size: int = 224,
    model: str = "demo",
    device: str | torch.device = "cpu",
    rounds: int = 3,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Time a slice by the released procedure and by ours, and measure how far either stays from the ODE's solution.

    Released: 250 ancestral steps, slice by slice, every Mamba's three scans one after the other
    (:mod:`benchmarks.released_way`). Ours: the pipeline's default, in a batch. Float32; random weights of a
    configuration of Table 1 between Stable Diffusion's VAE and a ViT-B/16. All seconds are a slice's. Conditions and
    decoding are computed by the same networks for both, in a batch for ours.

    The errors are those of the trained bundle ``model`` on slices of a phantom head: |x - y| / |y| of a slice's
    latent, where y is the solution by 1000 deterministic DDIM steps from the same noise.

    Returns a dictionary for JSON.

    Raises:
        InputError: a size below 1, or ``model`` is no DiffMa.
        ModelError: ``model`` is unknown or damaged.
        ValueError: an unknown size, or sizes that do not divide.
    """
    if min(batch, rounds) < 1:
        raise InputError("a benchmark needs at least one slice and one round; leave them out for the defaults")
    reporter = reporter or Reporter()
    reporter.stage("loading")
    trained = DiffMaPipeline.from_pretrained(model)
    if not isinstance(trained.denoiser, DiffMa) or trained.denoiser.config["backbone"] != "diffma":
        raise InputError(
            f"the denoiser of {model} is {trained.denoiser.title}; give a bundle whose denoiser is a DiffMa"
        )
    ours = random_pipeline(name, image_size, STABLE_DIFFUSION_VAE, VIT_B_16)
    backend = ours.set_device(str(device))
    times = _times(ours, batch, rounds, reporter)
    trained.set_device(str(device))
    error = _error(trained, model, reporter)
    whole = {key: [sum(parts) for parts in zip(*times[key].values(), strict=True)] for key in times}
    denoising = {key: times[key]["denoising"] for key in times}
    return {
        "benchmark": "released",
        "machine": machine(device),
        "shape": {"size": name, "image_size": image_size, "tokens": ours.denoiser.tokens, "batch": batch},
        "rounds": rounds,
        "procedures": {
            "ours": {"scheduler": DEFAULT_SCHEDULER, "steps": DEFAULT_STEPS, "batch": batch, "scan": backend},
            "released": {
                "scheduler": RELEASED_SCHEDULER,
                "steps": RELEASED_STEPS,
                "batch": 1,
                "scan": released_scan(device)[0],
            },
        },
        "timed_steps": TIMED_STEPS,
        "weights": "random, of DiffMa, of Stable Diffusion's VAE and of a ViT-B/16",
        "parts": {key: {part: spread(times[key][part]) for part in PARTS} for key in times},
        "whole": {key: spread(seconds) for key, seconds in whole.items()},
        "ratio": {"denoising": _ratio(denoising), "whole": _ratio(whole)},
        "error": error,
    }


def _ratio(seconds: dict[str, list[float]]) -> dict[str, float]:
    """How many times as long the released procedure takes, round by round."""
    return spread([theirs / own for own, theirs in zip(seconds["ours"], seconds["released"], strict=True)])


def _released_pipeline(pipe: DiffMaPipeline) -> DiffMaPipeline:
    """The same networks, with the denoiser computed the released way."""
    assert isinstance(pipe.denoiser, DiffMa)
    parts = {name: getattr(pipe, name) for name in ("embedder", "vae", "image_encoder", "scheduler")}
    released = DiffMaPipeline(denoiser=released_way(pipe.denoiser), bundle=pipe.bundle.to_dict(), **parts)
    released.tf32 = pipe.tf32
    return released


def _times(pipe: DiffMaPipeline, batch: int, rounds: int, reporter: Reporter) -> dict[str, dict[str, list[float]]]:
    """Seconds of a slice, of each procedure and part, round by round."""
    side = pipe.bundle.image_size
    source = torch.rand((batch, side, side), generator=torch.Generator().manual_seed(0)) * 2000 - 1000
    procedures = {
        "ours": (pipe, source, DEFAULT_SCHEDULER, DEFAULT_STEPS),
        "released": (_released_pipeline(pipe), source[:1], RELEASED_SCHEDULER, RELEASED_STEPS),
    }
    turns: dict[str, Callable[[], object]] = {}
    slices: dict[str, float] = {}  # by which a turn's seconds are divided
    for key, (own, given, scheduler, steps) in procedures.items():
        conditions = own.conditions(given)
        latents = torch.randn((len(given), *own.latent_shape), generator=torch.Generator().manual_seed(0))
        turns |= {
            f"{key} conditions": _reported(own.conditions, reporter, given),
            f"{key} denoising": _reported(own.denoise, reporter, conditions, TIMED_STEPS, scheduler),
            f"{key} decoding": _reported(own.decode, reporter, latents.to(own.device)),
        }
        slices |= {f"{key} {part}": float(len(given)) for part in PARTS}
        slices[f"{key} denoising"] *= TIMED_STEPS / steps
    reporter.stage("timing, all in turns", total=(rounds + 1) * len(turns))
    seconds = take_turns(turns, rounds, pipe.device)
    return {
        key: {part: [taken / slices[f"{key} {part}"] for taken in seconds[f"{key} {part}"]] for part in PARTS}
        for key in procedures
    }


def _reported(work: Callable[..., object], reporter: Reporter, *arguments: object) -> Callable[[], None]:
    def reported() -> None:
        work(*arguments)
        reporter.advance()

    return reported


def _error(pipe: DiffMaPipeline, model: str, reporter: Reporter) -> dict[str, Any]:
    """How far either procedure's latents are from the ODE's solution, from the same initial noise.

    The released procedure is computed by our blocks here: ``agreement`` is by how much the released way differs.
    """
    conditions = pipe.conditions(_phantom_slices(pipe, SLICES))
    ways = {
        "ode": ("ddim", ODE_STEPS),
        "ours": (DEFAULT_SCHEDULER, DEFAULT_STEPS),
        "released": (RELEASED_SCHEDULER, RELEASED_STEPS),
    }
    reporter.stage("distance to the ODE", total=sum(steps for _, steps in ways.values()))
    latents = {
        key: pipe.denoise(conditions, steps, scheduler, on_step=reporter.advance)
        for key, (scheduler, steps) in ways.items()
    }
    errors = {key: relative_errors(latents[key], latents["ode"]) for key in ("ours", "released")}
    return {
        "model": model,
        "model_sha256": pipe.checksum,
        "slices": f"{len(latents['ode'])} of a phantom head",
        "ode": f"{ODE_STEPS} deterministic DDIM steps from the same noise",
        **{key: {**spread(values), "slices": values} for key, values in errors.items()},
        "agreement": _agreement(pipe, conditions),
    }


@torch.inference_mode()
def _agreement(pipe: DiffMaPipeline, conditions: Conditions) -> float:
    """The largest relative difference of one evaluation, computed the released way and by our blocks."""
    assert isinstance(pipe.denoiser, DiffMa)
    count = len(conditions.soft_mask)
    noise = torch.randn((count, *pipe.latent_shape), generator=torch.Generator().manual_seed(0)).to(pipe.device)
    t = torch.full((count,), TRAIN_TIMESTEPS // 2, device=pipe.device)
    theirs, own = (model(noise, t, *conditions).sample for model in (released_way(pipe.denoiser), pipe.denoiser))
    return max(relative_errors(theirs, own))


def relative_errors(x: Tensor, exact: Tensor) -> list[float]:
    """|x - y| / |y| of every slice."""
    return ((x - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)).tolist()


def _phantom_slices(pipe: DiffMaPipeline, count: int) -> Tensor:
    """Source slices (N, S, S) evenly over a phantom head, as the bundle takes them when it converts."""
    bundle = pipe.bundle
    phantom = head_phantom(PHANTOM_SEED)
    image = phantom.ct_image() if bundle.takes_ct else phantom.mr_image()
    source = ready_source(image, bundle.source_normalisation)
    grid = SliceGrid.from_image(source.image, source.body, bundle.pixel_spacing, bundle.image_size)
    indices = [(2 * k + 1) * grid.n_slices // (2 * count) for k in range(count)]
    return torch.from_numpy(grid.slices(sitk.GetArrayViewFromImage(source.image), indices, source.outside))
