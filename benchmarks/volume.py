"""A whole volume converted as on a GPU, with each of the things that make it fast taken away in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import nn

from benchmarks.networks import random_pipeline
from DiffMaCore.baselines.registry import count_parameters
from DiffMaCore.devices import peak_memory
from DiffMaCore.diffusion.precision import choose_precision
from DiffMaCore.diffusion.schedulers import check_sampling
from DiffMaCore.errors import BackendError, InputError
from DiffMaCore.inference.benchmark import machine, take_turns, versus
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.presets import STABLE_DIFFUSION_VAE, VIT_B_16
from DiffMaCore.progress import Reporter

EVERYTHING = "everything on"
FIELD_MM = 224.0


@dataclass(frozen=True)
class Way:
    """One way to convert: precision, CUDA graph, and decoding while the next batch is denoised."""

    precision: str
    capture: bool
    overlap: bool


def benchmark_volume(
    name: str = "L/2",
    slices: int = 150,
    steps: int = 20,
    image_size: int = 224,
    batch: int | None = None,
    device: str | torch.device = "cpu",
    rounds: int = 3,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compare the ways on one volume, random weights of the true architectures.

    A turn is what a process's first volume takes once the weights are there in their precision and the kernels are
    compiled: a CUDA graph is captured anew. ``ratio`` is the method's time over everything's, ``difference`` the
    largest one of a voxel from everything's result over the range of the output, and ``peak_device_bytes`` what torch
    used on a GPU, weights included. Returns a dictionary for JSON.

    Raises InputError for sizes below 1 and unknown ones; ValueError for sizes that do not divide.
    """
    if min(slices, rounds) < 1:
        raise InputError("a benchmark needs at least one slice and one round; leave them out for the defaults")
    check_sampling(steps=steps, batch_size=batch)
    kind = torch.device(device)
    pipe, image = _pipeline(name, image_size), _volume(slices, image_size)
    ways, unavailable = _ways(kind)
    voxels: dict[str, np.ndarray] = {}
    facts: dict[str, dict[str, Any]] = {}
    warnings: dict[str, list[str]] = {way: [] for way in ways}

    def prepare(key: str) -> None:
        way = ways[key]
        pipe.set_device(str(kind), "auto", way.precision)
        pipe.capture, pipe.overlap = way.capture, way.overlap
        if kind.type == "cuda":
            torch.cuda.reset_peak_memory_stats(kind)

    def convert(key: str) -> None:
        reporter = _Warnings(warnings[key], progress)
        out = pipe(image, num_inference_steps=steps, batch_size=batch, reporter=reporter)
        voxels[key] = sitk.GetArrayFromImage(out.mr)
        facts[key] = {
            "precision": pipe.precision,
            "batch": out.metadata["batch_size"],
            "scan_backend": pipe.scan_backend,
            "peak_device_bytes": peak_memory(kind).get("peak_device_bytes"),
        }

    progress(f"{name}, {slices} slices at {image_size} px, {steps} steps: {rounds} rounds of {', '.join(ways)}")
    turns = {key: _turn(convert, key) for key in ways}
    seconds = take_turns(turns, rounds, kind, prepare)
    low, high = pipe.bundle.output_range
    results = []
    for key in ways:
        row = versus(key, seconds[key], seconds[EVERYTHING]) | facts[key]
        row["slices_per_s"] = slices / row["median_s"]
        row["difference"] = float(np.abs(voxels[key] - voxels[EVERYTHING]).max() / (high - low))
        row["warnings"] = sorted(set(warnings[key]))
        results.append(row)
    networks: dict[str, nn.Module] = {"denoiser": pipe.denoiser, "vae": pipe.vae, "image encoder": pipe.image_encoder}
    return {
        "benchmark": "volume",
        "machine": machine(kind),
        "shape": {"size": name, "image_size": image_size, "slices": slices, "steps": steps},
        "weights": "random, of the architectures of Stable Diffusion's VAE and of a ViT-B/16",
        "parameters": {key: count_parameters(network) for key, network in networks.items()},
        "rounds": rounds,
        "unavailable": unavailable,
        "results": results,
    }


class _Warnings(Reporter):
    """Keeps and passes on what may spoil a measurement, such as a batch that was too large."""

    def __init__(self, kept: list[str], tell: Callable[[str], None]) -> None:
        super().__init__()
        self._kept, self._tell = kept, tell

    def warning(self, message: str) -> None:
        if message not in self._kept:
            self._tell(message)
        self._kept.append(message)


def _turn(convert: Callable[[str], None], key: str) -> Callable[[], None]:
    return lambda: convert(key)


def _ways(device: torch.device) -> tuple[dict[str, Way], dict[str, str]]:
    """The ways that differ on a device, everything on first, and why the others do not."""
    unavailable = {}
    graph, overlap, precision = device.type == "cuda", device.type in ("cpu", "cuda"), "bfloat16"
    try:
        choose_precision(precision, device)
    except BackendError as reason:
        precision, unavailable["float32"] = "float32", str(reason)
    ways = {EVERYTHING: Way(precision, graph, overlap)}
    if graph:
        ways["no graph"] = Way(precision, False, overlap)
    else:
        unavailable["no graph"] = f"there are no CUDA graphs on {device}"
    if overlap:
        ways["no overlap"] = Way(precision, graph, False)
    else:
        unavailable["no overlap"] = f"nothing overlaps on {device}"
    if precision == "bfloat16":
        ways["float32"] = Way("float32", graph, overlap)
    return ways, unavailable


def _pipeline(name: str, image_size: int) -> DiffMaPipeline:
    pipe = random_pipeline(
        name,
        image_size,
        STABLE_DIFFUSION_VAE,
        VIT_B_16,
        anatomy="brain",
        pixel_spacing=FIELD_MM / image_size,
        hu_windows=((-1000, 1000), (-150, 250), (-20, 80)),
    )
    assert isinstance(pipe.denoiser, DiffMa)
    for block in pipe.denoiser.blocks:  # they begin as identities, whose differences would be zero
        nn.init.normal_(block.adaLN_modulation[1].weight, std=0.02)  # type: ignore[index, union-attr, arg-type]
    nn.init.normal_(pipe.denoiser.final.linear.weight, std=0.02)
    return pipe


def _volume(slices: int, side: int) -> sitk.Image:
    """A cylinder of noisy soft tissue in air, millimetre slices, HU."""
    across = np.linspace(-1, 1, side)
    inside = across[:, None] ** 2 / 0.72 + across[None, :] ** 2 / 0.5 < 1
    hu = np.full((slices, side, side), -1000, np.float32)
    hu[:, inside] = np.random.default_rng(0).normal(40, 20, (slices, int(inside.sum())))
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((FIELD_MM / side, FIELD_MM / side, 1.0))
    return image
