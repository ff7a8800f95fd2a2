"""VAE and image encoder, fetched, checked and kept with the cache; slices in, their latents and embeddings out."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from DiffMaCore.bundles import manifest, store
from DiffMaCore.bundles.config import BundleConfig, read_config
from DiffMaCore.devices import choose_batch, choose_device
from DiffMaCore.diffusion.conditions import encode, encoder_pixels, mr_to_pixels
from DiffMaCore.errors import DiffMaError, InputError, ModelError, OutOfMemory
from DiffMaCore.models import components
from DiffMaCore.models.autoencoders import Autoencoder, factor_of, maps_per_slice
from DiffMaCore.models.components import IMAGE_ENCODER, VAE, Part
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.presets import check_patch
from DiffMaCore.progress import Reporter
from DiffMaCore.training.cache import source_pixels, target_pixels, value_scale
from DiffMaCore.training.experiment import TRAINED, DataConfig, Experiment, Folders
from DiffMaCore.training.files import read_facts, replacing_folder, write_json
from DiffMaCore.training.sources import CaseSlices

_BUNDLE = "bundle:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SAVED = ("config.json", "diffusion_pytorch_model.safetensors")  # what save_pretrained writes


def load_parts(experiment: Experiment, folders: Folders, reporter: Reporter, device: str = "auto") -> Encoder | None:
    """The networks that ``experiment.parts`` names, copied to the cache's ``parts``; None where one of them is still to
    be trained in this experiment.

    A copy of what is asked for is taken in place of the hub. Raises InputError naming the key of one that is unknown,
    cannot be fetched, or does not fit the experiment's sizes.
    """
    folder = folders.data / "parts"
    wanted = {VAE.name: experiment.parts.vae, IMAGE_ENCODER.name: experiment.parts.image_encoder}
    own = {VAE.name: folders.part("autoencoder") / "model", IMAGE_ENCODER.name: folders.part("image_encoder") / "model"}
    if any(wanted[name] == TRAINED and not (own[name] / "config.json").is_file() for name in wanted):
        return None
    records: dict[str, dict[str, Any]] = read_facts(folder / "parts.json")
    loaded: dict[str, Any] = {}
    for part in (VAE, IMAGE_ENCODER):
        asked = str(own[part.name]) if wanted[part.name] == TRAINED else wanted[part.name]
        copy = folder / part.name
        known = records.get(part.name)
        if known and known["asked"] == asked and _HUB_ID.fullmatch(asked) and _digest(copy) == known["sha256"]:
            loaded[part.name] = _load_saved(part, copy)
            continue
        network, bundle = _obtain(part, asked, reporter)
        loaded[part.name] = network
        _check(experiment, **loaded)
        with replacing_folder(copy) as new:
            network.float().save_pretrained(new, safe_serialization=True, max_shard_size="100GB")
        told = bundle if part is IMAGE_ENCODER else None
        mean, std = (told.image_encoder_mean, told.image_encoder_std) if told else (None, None)
        records[part.name] = {"asked": asked, "sha256": _digest(copy), "mean": mean, "std": std}
        write_json(folder / "parts.json", records)
    _check(experiment, **loaded)
    return Encoder(folder, experiment.data, device, **loaded)


def _check(experiment: Experiment, vae: Autoencoder, image_encoder: ImageEncoder | None = None) -> None:
    """Raise InputError where the networks do not fit the sizes that the experiment asks for."""
    size, factor = experiment.data.image_size, factor_of(vae)
    if size % factor:
        good = max(factor, round(size / factor) * factor)
        raise InputError(
            f"data.image_size is {size}, which the VAE {experiment.parts.vae} cannot divide by {factor}; take {good}"
        )
    require_sizes(experiment, size // factor, image_encoder and image_encoder.config["embed_dim"])


def require_sizes(experiment: Experiment, latent_side: int, width: int | None) -> None:
    """Raise InputError where a latent or embeddings of ``width`` do not fit the experiment's denoiser."""
    denoiser = experiment.denoiser
    try:
        check_patch(latent_side, denoiser.patch_size)
    except ValueError as problem:
        raise InputError(f"denoiser.patch_size: {problem}") from None
    if width not in (None, denoiser.width):
        raise InputError(
            f"the image encoder {experiment.parts.image_encoder} gives embeddings of width {width} and denoiser.width"
            f" is {denoiser.width} here; as they are added, set denoiser.width to {width} or choose another encoder"
        )


def _obtain(part: Part, asked: str, reporter: Reporter) -> tuple[Any, BundleConfig | None]:
    key = f"parts.{part.name}"
    folder = Path(asked).expanduser()
    try:
        if asked.startswith(_BUNDLE):
            bundle = store.resolve(asked.removeprefix(_BUNDLE))
            manifest.verify(bundle)
            if not (bundle / part.name).is_dir():
                raise InputError(f"it has no {part.name}")
            return _load_saved(part, bundle / part.name), read_config(bundle)
        # an image encoder as bundles hold it; a VAE's folder is the same on the hub and in a bundle
        if part is IMAGE_ENCODER and all((folder / name).is_file() for name in _SAVED):
            return _load_saved(part, folder), None
        if not folder.is_dir() and not _HUB_ID.fullmatch(asked):
            raise InputError(f"it is neither a folder, a hub id such as {part.hub_id}, nor bundle:NAME")
        reporter.stage(f"fetching {asked}")
        network = components.obtain(part, asked, reporter.bytes_done)
    except OutOfMemory:
        raise
    except DiffMaError as problem:
        raise InputError(f"{key}: {asked} cannot be used: {problem}") from None
    if network is None:
        raise InputError(
            f"{key}: {asked} cannot be fetched from the hub; check the name and the connection, or give a folder that"
            f" holds it, or {_BUNDLE}NAME for an installed bundle's"
        )
    return network, None


def _load_saved(part: Part, folder: Path) -> Any:
    """A network as bundles and caches hold it; ModelError where it is damaged."""
    return VAE.load(folder) if part is VAE else components.load_network(ImageEncoder, folder, part.name)


def _digest(folder: Path) -> str:
    """SHA-256 over weights and configuration, "" where one is missing; what diffusers notes of itself in the latter
    does not count."""
    if not all((folder / name).is_file() for name in _SAVED):
        return ""
    config = json.loads((folder / _SAVED[0]).read_text(encoding="utf-8"))
    plain = {key: value for key, value in config.items() if not key.startswith("_")}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    digest.update(manifest.sha256_of(folder / _SAVED[1]).encode())
    return digest.hexdigest()


class Encoder:
    """The networks that :func:`load_parts` left in ``folder``, in eval mode; on ``device`` as soon as they are needed.

    They run in float32, so that what is stored is what inference computes. ``records`` is what ``parts.json`` tells of
    each: as it was ``asked`` for, the ``sha256`` of configuration and weights, and the ``mean`` and ``std`` of the
    pixels it expects, where it says. Raises ModelError where a network cannot be read.
    """

    def __init__(self, folder: Path, data: DataConfig, device: str = "auto", **loaded: Any) -> None:
        self.folder, self.data, self.asked = folder, data, device
        loaded = loaded or {part.name: _load_saved(part, folder / part.name) for part in (VAE, IMAGE_ENCODER)}
        self.vae: Autoencoder = loaded["vae"]
        self.image_encoder: ImageEncoder = loaded["image_encoder"]
        self.records: dict[str, dict[str, Any]] = read_facts(folder / "parts.json")

    def __reduce__(self) -> tuple[Any, ...]:
        return _kept_encoder, (self.folder, self.data, self.asked, json.dumps(self.records))  # to another process

    def sizes(self) -> dict[str, int]:
        """What latents and embeddings are like."""
        channels, width = self.vae.config["latent_channels"], self.image_encoder.config["embed_dim"]
        side = self.data.image_size // factor_of(self.vae)
        return {"latent_channels": channels, "latent_size": side, "embed_dim": width}

    @cached_property
    def device(self) -> torch.device:
        """Where both are from now on."""
        device = choose_device(self.asked)
        self.vae, self.image_encoder = self.vae.to(device), self.image_encoder.to(device)
        return device

    @cached_property
    def batch(self) -> int:
        """Slices at once: the encoder's widest maps, a few of them alive at once, for source and target."""
        return choose_batch(self.device, 4 * self.data.image_size**2 * maps_per_slice(self.vae)[0])

    @torch.inference_mode()
    def tensors(self, slices: CaseSlices) -> dict[str, Tensor]:
        """Latents of source and target, and the image encoder's embeddings of the source, of a case.

        Raises ModelError where a network gives numbers that are not finite.
        """
        return {**self.source(torch.from_numpy(slices.source)), **self.target(torch.from_numpy(slices.target))}

    @torch.inference_mode()
    def source(self, source: Tensor) -> dict[str, Tensor]:
        """``source_latent`` and ``clip_embedding`` of source slices (N, S, S), HU or [-1, 1]."""
        latents, clips, record = [], [], self.records[IMAGE_ENCODER.name]
        for part in source.split(self.batch):
            pixels = source_pixels(part.to(self.device), self.data)
            latents.append(_half(encode(self.vae, pixels)))
            scaled = encoder_pixels(pixels, self.image_encoder.image_size, record["mean"], record["std"])
            clips.append(_half(self.image_encoder(scaled)))
        return {"source_latent": torch.cat(latents), "clip_embedding": torch.cat(clips)}

    @torch.inference_mode()
    def target(self, target: Tensor) -> dict[str, Tensor]:
        """``target_latent`` of target slices (N, S, S)."""
        wanted = (mr_to_pixels(target_pixels(part.to(self.device), self.data)) for part in target.split(self.batch))
        return {"target_latent": torch.cat([_half(encode(self.vae, pixels)) for pixels in wanted])}


@lru_cache(maxsize=1)
def _kept_encoder(folder: Path, data: DataConfig, device: str, records: str) -> Encoder:
    """The encoder of a worker, which keeps it; other ``records`` are of other networks."""
    return Encoder(folder, data, device)


def _half(values: Tensor) -> Tensor:
    if not torch.isfinite(values).all():
        raise ModelError("the VAE or the image encoder gave values that are not finite; fetch its weights again")
    return values.half().cpu()


def stored_slices(slices: CaseSlices, data: DataConfig) -> dict[str, Tensor]:
    """The slices of a case as its file holds them: values as int16 in steps of :func:`value_scale`."""
    images = {"source": (slices.source, data.source), "target": (slices.target, data.target)}
    steps = {name: torch.from_numpy(values) / value_scale(modality) for name, (values, modality) in images.items()}
    return {
        **{name: values.round().clamp(-32768, 32767).to(torch.int16) for name, values in steps.items()},
        "body": torch.from_numpy(slices.body.astype(np.uint8)),
        "slice_index": torch.from_numpy(slices.index),
    }
