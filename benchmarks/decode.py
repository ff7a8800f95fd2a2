"""What a small decoder saves: Stable Diffusion's VAE against an AutoencoderTiny, each in both memory layouts."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from DiffMaCore.baselines.registry import count_parameters
from DiffMaCore.diffusion.conditions import decode
from DiffMaCore.errors import InputError
from DiffMaCore.inference.benchmark import machine, take_turns, versus
from DiffMaCore.presets import STABLE_DIFFUSION_VAE, VAE_FACTOR

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
"""How feature maps lie in memory: channel after channel, or pixel after pixel."""


def benchmark_decode(
    batch: int = 4,
    image_size: int = 224,
    device: str | torch.device = "cpu",
    rounds: int = 5,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compare decoders and layouts: random weights of the true architectures, float32, random latents.

    Times are of a batch; ``per_slice_s`` is a slice's, ``ratio`` the method's time over that of the full decoder
    in the contiguous layout, ``to_contiguous`` over its own there. ``difference`` is the largest deviation from the
    own contiguous image over its largest value. Returns a dictionary for JSON.

    Raises InputError for sizes below 1 and slices that the VAE cannot halve three times.
    """
    if min(batch, rounds) < 1 or image_size < 1 or image_size % VAE_FACTOR:
        raise InputError(
            f"a benchmark needs at least one slice and one round, and {image_size} pixels must be divisible by"
            f" {VAE_FACTOR}; leave them out for the defaults"
        )
    torch.manual_seed(0)
    decoders = {"full": AutoencoderKL(**STABLE_DIFFUSION_VAE), "small": AutoencoderTiny()}
    side = image_size // VAE_FACTOR
    latents = torch.randn(batch, 4, side, side).to(device)
    turns: dict[str, Callable[[], Tensor]] = {}
    for name, decoder in decoders.items():
        decoder.eval().requires_grad_(False)
        for layout, memory in LAYOUTS.items():
            turns[f"{name}, {layout}"] = _turn(deepcopy(decoder).to(device, memory_format=memory), latents)
    images = {key: run() for key, run in turns.items()}
    progress(f"{image_size} px, batch {batch}: {rounds} rounds of {'; '.join(turns)}")
    seconds = take_turns(turns, rounds, device)
    first = next(iter(turns))
    return {
        "benchmark": "decode",
        "machine": machine(device),
        "shape": {"image_size": image_size, "batch": batch, "precision": "fp32"},
        "weights": "random, of the architectures of Stable Diffusion's VAE and of diffusers' AutoencoderTiny",
        "parameters": {name: count_parameters(decoder.decoder) for name, decoder in decoders.items()},
        "rounds": rounds,
        "results": [_row(key, seconds, images, first, batch) for key in turns],
    }


def _turn(decoder: AutoencoderKL | AutoencoderTiny, latents: Tensor) -> Callable[[], Tensor]:
    @torch.inference_mode()
    def run() -> Tensor:
        return decode(decoder, latents)

    return run


def _row(
    key: str, seconds: dict[str, list[float]], images: dict[str, Tensor], first: str, batch: int
) -> dict[str, Any]:
    own = f"{key.split(',')[0]}, contiguous"
    result = versus(key, seconds[key], seconds[first])
    difference = (images[key] - images[own]).abs().max() / images[own].abs().max()
    return {
        **result,
        "per_slice_s": result["median_s"] / batch,
        "to_contiguous": versus(key, seconds[key], seconds[own])["ratio"],
        "difference": float(difference),
    }
