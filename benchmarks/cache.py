"""What the cache saves: a training step on cached latents against the same step that runs VAE and image encoder
each time, and against a step as the paper's released code takes it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.released_way import released_scan, released_way
from DiffMaCore.baselines.registry import count_parameters
from DiffMaCore.diffusion.conditions import encode, encoder_pixels, mr_to_pixels
from DiffMaCore.errors import InputError
from DiffMaCore.inference.benchmark import machine, take_turns, versus
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.presets import STABLE_DIFFUSION_VAE, VAE_FACTOR, VIT_B_16, preset
from DiffMaCore.training.batches import ShardedRNG, to_device
from DiffMaCore.training.cache import FORMAT, PairedCache, SliceDataset, source_pixels
from DiffMaCore.training.experiment import CardConfig, DataConfig, DenoiserConfig, Experiment, experiment_folders
from DiffMaCore.training.files import write_json
from DiffMaCore.training.tasks.denoiser import KEYS, DenoiserTask

Batch = dict[str, Tensor]


def benchmark_cache(
    name: str = "B/2",
    batch: int = 4,
    image_size: int = 224,
    device: str | torch.device = "cpu",
    rounds: int = 3,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compare training steps: rows read from disk, loss, gradient, AdamW and EMA.

    "cached" is ours; "encoding" computes latents and embeddings from slices in between; "released" encodes too, and
    takes every Mamba's three scans one after the other (:mod:`benchmarks.released_way`). Random weights of the
    true architectures and random slices. On a GPU the first two run under bf16, the released step under fp16 with a
    gradient scaler, as its authors' does; elsewhere all in float32. ``ratio`` is the method's time over the cached
    step's. Returns a dictionary for JSON.

    Raises InputError for sizes below 1; ValueError for an unknown size or sizes that do not divide.
    """
    if min(batch, rounds) < 1:
        raise InputError("a benchmark needs at least one slice and one round; leave them out for the defaults")
    size = preset(name, image_size)
    torch.manual_seed(0)
    vae = AutoencoderKL(**STABLE_DIFFUSION_VAE).eval().requires_grad_(False).to(device)
    encoder = ImageEncoder(size["width"], VIT_B_16).eval().requires_grad_(False).to(device)
    embedder = VisionEmbedder(size["latent_size"], size["patch_size"], size["width"]).eval().requires_grad_(False)
    experiment = Experiment(
        name="benchmark",
        title="random slices",
        data=DataConfig(anatomy="none", image_size=image_size),
        card=CardConfig("none", "MIT", "random"),
        denoiser=DenoiserConfig(width=size["width"], depth=size["depth"], patch_size=size["patch_size"]),
    )
    kind = torch.device(device)
    with tempfile.TemporaryDirectory() as folder:
        cache = random_cache(Path(folder), experiment.data, size, slices=2 * batch)
        folders = experiment_folders(experiment, Path(folder))
        task = DenoiserTask(experiment, folders, cache, embedder)
        step, released = _Step(task, kind, batch), _Step(task, kind, batch, released=True)
        pixels = SliceDataset(cache, cache.ids("train"), ("source", "target"))
        turns = {
            "cached": lambda: step(step.read(task.dataset)),
            "encoding": lambda: step(encoded(step)),
            "released": lambda: released(encoded(released)),
        }

        def encoded(step: _Step) -> Batch:
            with torch.no_grad(), step.precision():
                return _encoded(step.read(pixels), experiment.data, vae, encoder)

        progress(f"{name} at {image_size} px, batch {batch}: {rounds} rounds of {', '.join(turns)}")
        seconds = take_turns(turns, rounds, kind)
    networks: dict[str, nn.Module] = {"denoiser": task.model, "vae": vae, "image encoder": encoder}
    return {
        "benchmark": "cache",
        "machine": machine(kind),
        "shape": {"size": name, "image_size": image_size, "batch": batch, "precision": step.words},
        "released": {"precision": released.words, "scan": released_scan(kind)[0]},
        "weights": "random, of the architectures of Stable Diffusion's VAE and of a ViT-B/16",
        "parameters": {key: sum(p.numel() for p in network.parameters()) for key, network in networks.items()}
        | {"denoiser": count_parameters(task.model)},
        "rounds": rounds,
        "results": [versus(key, seconds[key], seconds["cached"]) for key in turns],
    }


class _Step:
    """One optimiser step, as the trainer takes it, or as the released code does."""

    def __init__(self, task: DenoiserTask, device: torch.device, batch: int, released: bool = False) -> None:
        self.task, self.device, self.batch = task, device, batch
        model: Any = task.model.to(device).train()
        self.model = released_way(model) if released else model
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.0)
        self.ema = EMAModel(self.model.parameters(), 0.9999, foreach=True)
        on_gpu = device.type == "cuda"
        self.words = "fp32" if not on_gpu else "fp16" if released else "bf16"
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.words == "fp16")
        self.done = 0

    def precision(self) -> AbstractContextManager[Any]:
        """Under what the networks run."""
        dtype = torch.float16 if self.words == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.words != "fp32")

    def read(self, rows: Any) -> Batch:
        """A batch of rows on the device, always of the same ones."""
        return to_device(rows.batch(range(self.batch)), self.device)

    def __call__(self, batch: Batch) -> None:
        self.done += 1
        rng = ShardedRNG(0, self.done, 0, self.batch, self.batch, self.device)
        with self.precision():
            loss, _ = self.task.loss(self.model, batch, rng)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        self.ema.step(self.model.parameters())


def _encoded(rows: Batch, data: DataConfig, vae: AutoencoderKL, encoder: ImageEncoder) -> Batch:
    """What the cache holds, computed from slices."""
    pixels = source_pixels(rows["source"], data)
    source, target = encode(vae, torch.cat([pixels, mr_to_pixels(rows["target"])])).float().chunk(2)
    clip = encoder(encoder_pixels(pixels, encoder.image_size))
    return dict(zip(KEYS, (target, source, clip.float()), strict=True))


def random_cache(folder: Path, data: DataConfig, size: dict[str, Any], slices: int, cases: int = 1) -> PairedCache:
    """A cache of random numbers: so many cases of so many slices, all of which train."""
    pixels, side = (slices, data.image_size, data.image_size), size["latent_size"]
    latents = (slices, 4, side, side)
    (folder / "cases").mkdir()
    ids = [f"random_{number}" for number in range(cases)]
    for id in ids:
        tensors = {
            "source": torch.randint(-1000, 1000, pixels, dtype=torch.int16),
            "target": torch.randint(-32767, 32767, pixels, dtype=torch.int16),
            "body": torch.ones(pixels, dtype=torch.uint8),
            "source_latent": torch.randn(latents).half(),
            "target_latent": torch.randn(latents).half(),
            "clip_embedding": torch.randn(slices, size["width"]).half(),
            "slice_index": torch.arange(slices),
        }
        save_file(tensors, folder / "cases" / f"{id}.safetensors")
    write_json(folder / "split.json", {"seed": 0, "train": ids, "validation": [], "test": []})
    manifest = {
        "format": FORMAT,
        "data": asdict(data),
        "parts": {"image_encoder": {}},
        "fingerprint": "",
        "latent_channels": 4,
        "latent_size": data.image_size // VAE_FACTOR,
        "embed_dim": size["width"],
        "cases": [
            {"id": id, "centre": "", "slices": slices, "contrast": 0, "spacing": 1.0, "key": "", "content": id}
            for id in ids
        ],
    }
    write_json(folder / "manifest.json", manifest)
    return PairedCache.open(folder)
