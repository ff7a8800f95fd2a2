"""Most memory that the parts of a conversion take, and what the pipeline reckons with when it chooses a batch.

The networks are of the true architectures with random weights: Stable Diffusion's VAE, a ViT-B/16, DiffMa as in
Table 1. Every value comes from a fresh process, and is what was used beyond the program and its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.fresh_process import forget_peak, in_fresh_process, used_memory
from benchmarks.networks import random_pipeline
from DiffMaCore.devices import keep_freed_memory
from DiffMaCore.diffusion.conditions import Conditions
from DiffMaCore.errors import InputError
from DiffMaCore.inference.benchmark import machine
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.presets import STABLE_DIFFUSION_VAE, VIT_B_16, preset
from DiffMaCore.progress import Reporter

SIZES = ("S/2", "B/2", "L/2")
IMAGE_SIZES = (224, 448)
BATCHES = (1, 4)
PARTS = ("conditions", "denoising", "decoding", "whole")
"""The three parts of a batch, each alone, and all of them one after the other, as a conversion runs them."""

_STEPS = 2  # of denoising: more take no more memory


def benchmark_memory(
    sizes: Sequence[str] = SIZES,
    image_sizes: Sequence[int] = IMAGE_SIZES,
    batches: Sequence[int] = BATCHES,
    device: str | torch.device = "cpu",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Peak memory of every part at every size, image size (pixels) and batch (slices).

    Float32. All values are bytes beyond program and weights: of the process on a CPU, of torch's allocations on a
    GPU; None where it is not known. ``measured`` is the largest part's, ``reckoned`` the pipeline's own
    ``bytes_per_slice`` times the batch, ``ratio`` reckoned over measured. Returns a dictionary for JSON.

    Raises InputError for batches below 1; ValueError for an unknown size or sizes that do not divide.
    """
    if min(batches) < 1:
        raise InputError("a benchmark of memory needs batches of at least one slice; leave --batches out for 1 and 4")
    for name in sizes:
        for image_size in image_sizes:
            preset(name, image_size)
    points = [(name, pixels, batch) for pixels in image_sizes for batch in batches for name in sizes]
    reporter = reporter or Reporter()
    reporter.stage("memory, a fresh process a part", len(PARTS) * len(points))
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    results = []
    for name, pixels, batch in points:
        parts: dict[str, dict[str, Any]] = {}
        for part in PARTS:
            # VAE, image encoder and Vision Embedder are the same whatever the denoiser
            key = (part, name if part in ("denoising", "whole") else "", pixels, batch)
            if key not in known:
                known[key] = in_fresh_process(
                    _memory_of, part, name, pixels, batch, str(device), STABLE_DIFFUSION_VAE, VIT_B_16
                )
            parts[part] = known[key]
            reporter.advance()
        results.append(_point(name, pixels, batch, parts))
    return {
        "benchmark": "memory",
        "machine": machine(device),
        "shape": {"precision": "fp32"},
        "rounds": 1,
        "weights": "random, of the architectures of Stable Diffusion's VAE and of a ViT-B/16",
        "points": results,
    }


def _point(name: str, pixels: int, batch: int, parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    taken = {part: one["bytes"] for part, one in parts.items()}
    known = [count for count in taken.values() if count is not None]
    reckoned = parts["whole"]["reckoned"]
    measured = max(known) if known else None
    return {
        "size": name,
        "image_size": pixels,
        "tokens": parts["whole"]["tokens"],
        "batch": batch,
        "parts": taken,
        "measured": measured,
        "reckoned": reckoned,
        "ratio": reckoned / measured if measured else None,
    }


def _memory_of(
    part: str, name: str, pixels: int, batch: int, device: str, vae: dict[str, Any], vision: dict[str, Any]
) -> dict[str, Any]:
    """Bytes of one part, and the reckoning; in a process of its own."""
    pipe = random_pipeline(name, pixels, vae, vision).to(device)
    _warm_up(pipe)
    work = _work(pipe, part, batch)
    # only now, as in a conversion: what building has freed is not there to be used again
    keep_freed_memory()
    forget_peak(device)
    before = used_memory(device)
    work()
    after = used_memory(device)
    return {
        "bytes": None if after is None or before is None else after - before,
        "reckoned": pipe.bytes_per_slice() * batch,
        "tokens": pipe.denoiser.tokens,
    }


def _work(pipe: DiffMaPipeline, part: str, batch: int) -> Callable[[], Any]:
    """One part of a batch on random inputs."""
    side, tokens, width = pipe.bundle.image_size, pipe.denoiser.tokens, pipe.denoiser.config["width"]
    slices = torch.rand(batch, side, side) * 2000 - 1000
    shapes = ((batch, width), (batch, tokens, width), (batch, tokens, 1), (batch, *pipe.latent_shape))
    given = Conditions(*(torch.rand(shape, device=pipe.device) for shape in shapes))
    turns: dict[str, Callable[[], Any]] = {
        "conditions": lambda: pipe.conditions(slices),
        "denoising": lambda: pipe.denoise(given, _STEPS, "dpm++"),
        "decoding": lambda: pipe.decode(given.ct_latent),
        "whole": lambda: pipe.decode(pipe.denoise(pipe.conditions(slices), _STEPS, "dpm++")),
    }
    return turns[part]


def _warm_up(pipe: DiffMaPipeline) -> None:
    """Compile and load the kernels, on next to nothing: once a process, and not a batch's memory."""
    tiny = DiffMa(latent_size=4, patch_size=2, width=64, depth=1).eval().to(pipe.device)
    shapes = ((1, 4, 4, 4), (1,), (1, 64), (1, 4, 64), (1, 4, 1))
    with torch.inference_mode():
        tiny(*(torch.rand(shape, device=pipe.device) for shape in shapes))
        pipe.vae.decode(pipe.vae.encode(torch.rand(1, 3, 16, 16, device=pipe.device)).latent_dist.mode())
