"""Slices in, what training reads out: latents and image-encoder embeddings, computed once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from DiffMaCore.devices import choose_batch
from DiffMaCore.diffusion.conditions import encode, encoder_pixels, mr_to_pixels
from DiffMaCore.errors import ModelError
from DiffMaCore.models.autoencoders import maps_per_slice
from DiffMaCore.training.cache import source_pixels, target_pixels, value_scale
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.parts import Parts
from DiffMaCore.training.sources import CaseSlices


class Encoder:
    """The two networks on a device. They run in float32, so that what is stored is what inference computes."""

    def __init__(self, parts: Parts, data: DataConfig, device: torch.device) -> None:
        self.data, self.device = data, device
        self.vae, self.image_encoder = parts.vae.to(device), parts.image_encoder.to(device)
        record = parts.records["image_encoder"]
        self.mean, self.std = record["mean"], record["std"]
        # the encoder's widest maps, a few of them alive at once, for source and target
        maps = 4 * data.image_size**2 * maps_per_slice(self.vae)[0]
        self.batch = choose_batch(device, maps)

    @torch.inference_mode()
    def tensors(self, slices: CaseSlices) -> dict[str, Tensor]:
        """Latents of source and target, and the image encoder's embeddings of the source, of a case.

        Raises ModelError where a network gives numbers that are not finite.
        """
        return {**self.source(torch.from_numpy(slices.source)), **self.target(torch.from_numpy(slices.target))}

    @torch.inference_mode()
    def source(self, source: Tensor) -> dict[str, Tensor]:
        """``source_latent`` and ``clip_embedding`` of source slices (N, S, S), HU or [-1, 1]."""
        latents, clips = [], []
        for part in source.split(self.batch):
            pixels = source_pixels(part.to(self.device), self.data)
            latents.append(_half(encode(self.vae, pixels)))
            scaled = encoder_pixels(pixels, self.image_encoder.image_size, self.mean, self.std)
            clips.append(_half(self.image_encoder(scaled)))
        return {"source_latent": torch.cat(latents), "clip_embedding": torch.cat(clips)}

    @torch.inference_mode()
    def target(self, target: Tensor) -> dict[str, Tensor]:
        """``target_latent`` of target slices (N, S, S)."""
        wanted = (mr_to_pixels(target_pixels(part.to(self.device), self.data)) for part in target.split(self.batch))
        return {"target_latent": torch.cat([_half(encode(self.vae, pixels)) for pixels in wanted])}


def _half(values: Tensor) -> Tensor:
    if not torch.isfinite(values).all():
        raise ModelError("the VAE or the image encoder gave values that are not finite; fetch its weights again")
    return values.half().cpu()


def stored_slices(slices: CaseSlices, data: DataConfig) -> dict[str, Tensor]:
    """The slices of a case as its file holds them."""
    return {
        "source": stored(slices.source, data.source),
        "target": stored(slices.target, data.target),
        "body": torch.from_numpy(slices.body.astype(np.uint8)),
        "slice_index": torch.from_numpy(slices.index),
    }


def stored(values: NDArray[np.float32], modality: str) -> Tensor:
    """Float values as int16 in steps of :func:`value_scale`."""
    return (torch.from_numpy(values) / value_scale(modality)).round().clamp(-32768, 32767).to(torch.int16)
