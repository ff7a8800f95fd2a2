"""Stage 3, the Vision Embedder: InfoNCE (Eqs. 7-8) between two differently disturbed views of each CT slice.

The released code contrasts a batch with itself, which the mask can satisfy without looking at the slice.
Two views make it a task: what tells slices apart must survive noise, HU drift and missing patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from DiffMaCore.conditions import Window, encode, hu_to_pixels
from DiffMaCore.models.embedder import VisionEmbedder, info_nce
from DiffMaCore.training.demo.data import Slices, batches
from DiffMaCore.training.demo.loop import Loop, LoopConfig
from DiffMaCore.training.soft_masks import calibrate_mask
from DiffMaCore.training.views import disturbed


@dataclass(frozen=True)
class EmbedderConfig:
    """How strongly the two views differ, and how long the embedder trains."""

    loop: LoopConfig
    mask_hidden: int | None = None
    noise: float = 0.35  # of the latents' unit variance
    gain: float = 0.15
    dropped: float = 0.3  # share of the slice covered by patches that are blanked
    mask_spread: float = 0.05  # weight of the reward for masks that follow the slice
    mask_logits: float = 1.3  # standard deviation of the mask's logits about each token's mean, after training
    mask_places: float = 0.3  # the same of the tokens' means
    temperature: float = 0.07


class _Stream:
    """Random numbers of one batch, one after the other out of a generator."""

    def __init__(self, batch: int, generator: torch.Generator) -> None:
        self.batch, self.generator = batch, generator

    def normal(self, name: str, *shape: int) -> Tensor:
        return torch.randn(self.batch, *shape, generator=self.generator)

    def uniform(self, name: str, *shape: int) -> Tensor:
        return torch.rand(self.batch, *shape, generator=self.generator)


@torch.inference_mode()
def ct_latents(vae: AutoencoderKL, hu: Tensor, windows: Sequence[Window], size: int = 32) -> Tensor:
    """Latents (N, 4, S', S') of CT slices (N, S, S) in HU, in batches."""
    with torch.autocast("cpu", torch.bfloat16):
        parts = [encode(vae, hu_to_pixels(part.float(), windows)).float() for part in hu.split(size)]
    return torch.cat(parts)


def train_embedder(latents: Tensor, patch_size: int, width: int, config: EmbedderConfig, seed: int) -> VisionEmbedder:
    """Train on CT latents (N, 4, S, S)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    embedder = VisionEmbedder(latents.shape[-1], patch_size, width, latents.shape[1], config.mask_hidden).train()
    parameters = list(embedder.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=config.loop.learning_rate, weight_decay=0.0)
    loop = Loop("embedder", config.loop, optimiser)
    order = batches(len(latents), config.loop.batch_size, config.loop.steps, generator)
    for _, index in zip(loop, order, strict=False):
        clean = latents[index]
        stream, strength = _Stream(len(index), generator), (config.noise, config.gain, config.dropped)
        a, b = (embedder(disturbed(clean, stream, view, *strength)) for view in "ab")
        contrast = info_nce(a.ct_embedding, b.ct_embedding, config.temperature)
        # agreement of the two views' masks at each token, over slices: 1 where the mask follows the slice
        first, second = (m - m.mean(dim=0) for m in (a.soft_mask[..., 0], b.soft_mask[..., 0]))
        follows = (first * second).mean() / (0.25 * (1e-3 + a.soft_mask.var(dim=(0, 1)).mean().detach()))
        loss = contrast - config.mask_spread * follows.clamp(max=2.0)
        loop.update(loss, parameters, info_nce=float(contrast.detach()), follows=float(follows.detach()))
    calibrate_mask(embedder, latents[:: max(len(latents) // 512, 1)].float(), config.mask_logits, config.mask_places)
    return embedder.eval().requires_grad_(False)


def slices_to_latents(vae: AutoencoderKL, slices: Slices, windows: Sequence[Window], count: int) -> Tensor:
    """CT latents of ``count`` slices spread over all phantoms."""
    index = torch.linspace(0, len(slices) - 1, min(count, len(slices))).long()
    return ct_latents(vae, slices.ct[index], windows)
