"""Slices to what training reads: latents and image-encoder embeddings, computed once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from DiffMaCore.conditions import encode, encoder_pixels, mr_to_pixels
from DiffMaCore.devices import choose_batch
from DiffMaCore.errors import ModelError
from DiffMaCore.training.cache import source_pixels, target_pixels, value_scale
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.parts import Parts
from DiffMaCore.training.slicing import CaseSlices


class Encoder:
    """The two networks on a device. They run in float32, so that what is stored is what inference computes."""

    def __init__(self, parts: Parts, data: DataConfig, device: torch.device) -> None:
        self.data, self.device = data, device
        self.vae, self.image_encoder = parts.vae.to(device), parts.image_encoder.to(device)
        record = parts.records["image_encoder"]
        self.mean, self.std = record.mean, record.std
        # the encoder's widest maps, a few of them alive at once, for source and target
        maps = 2 * 6 * 4 * data.image_size**2 * self.vae.config["block_out_channels"][0]
        self.batch = choose_batch(device, maps)

    @torch.inference_mode()
    def tensors(self, slices: CaseSlices) -> dict[str, Tensor]:
        """Everything that the cache holds of a case.

        Raises ModelError where a network gives numbers that are not finite.
        """
        source, target = torch.from_numpy(slices.source), torch.from_numpy(slices.target)
        parts = [self._encode(*rows) for rows in zip(source.split(self.batch), target.split(self.batch), strict=True)]
        source_latent, target_latent, clip = (torch.cat(part) for part in zip(*parts, strict=True))
        return {
            "source": _stored(source, self.data.source),
            "target": _stored(target, self.data.target),
            "body": torch.from_numpy(slices.body.astype(np.uint8)),
            "source_latent": source_latent,
            "target_latent": target_latent,
            "clip_embedding": clip,
            "slice_index": torch.from_numpy(slices.index),
        }

    def _encode(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pixels = source_pixels(source.to(self.device), self.data)
        wanted = mr_to_pixels(target_pixels(target.to(self.device), self.data))
        latents = encode(self.vae, torch.cat([pixels, wanted]))
        clip = self.image_encoder(encoder_pixels(pixels, self.image_encoder.image_size, self.mean, self.std))
        if not (torch.isfinite(latents).all() and torch.isfinite(clip).all()):
            raise ModelError("the VAE or the image encoder gave values that are not finite; fetch its weights again")
        source_latent, target_latent = latents.half().cpu().chunk(2)
        return source_latent, target_latent, clip.half().cpu()


def _stored(values: Tensor, modality: str) -> Tensor:
    """Float values as int16 in steps of :func:`value_scale`."""
    return (values / value_scale(modality)).round().clamp(-32768, 32767).to(torch.int16)
