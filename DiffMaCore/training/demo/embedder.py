"""Stage 3, the Vision Embedder: InfoNCE (Eqs. 7-8) between two differently disturbed views of each CT slice.

The released code contrasts a batch with itself, which the mask can satisfy without looking at the slice.
Two views make it a task: what tells slices apart must survive noise, HU drift and missing patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.conditions import Window, encode, hu_to_pixels
from DiffMaCore.models.embedder import VisionEmbedder, info_nce
from DiffMaCore.training.demo.data import Slices, batches
from DiffMaCore.training.demo.loop import Loop, LoopConfig


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


def _view(latents: Tensor, config: EmbedderConfig, generator: torch.Generator) -> Tensor:
    """Latents (B, 4, S, S) with noise, gain and offset a channel, and square holes at one level a slice."""
    batch, channels, side, _ = latents.shape

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    moved = latents * (1 + config.gain * draw(batch, channels, 1, 1)) + config.gain * draw(batch, channels, 1, 1)
    moved = moved + config.noise * draw(*latents.shape)
    cells = max(side // 8, 1)
    holes = torch.rand(batch, 1, cells, cells, generator=generator) < config.dropped
    holes = F.interpolate(holes.float(), (side, side), mode="nearest")
    return moved * (1 - holes) + latents.mean(dim=(2, 3), keepdim=True) * holes


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
        a, b = (embedder(_view(clean, config, generator)) for _ in range(2))
        contrast = info_nce(a.ct_embedding, b.ct_embedding, config.temperature)
        # agreement of the two views' masks at each token, over slices: 1 where the mask follows the slice
        first, second = (m - m.mean(dim=0) for m in (a.soft_mask[..., 0], b.soft_mask[..., 0]))
        follows = (first * second).mean() / (0.25 * (1e-3 + a.soft_mask.var(dim=(0, 1)).mean().detach()))
        loss = contrast - config.mask_spread * follows.clamp(max=2.0)
        loop.update(loss, parameters, info_nce=float(contrast.detach()), follows=float(follows.detach()))
    calibrate_mask(embedder, latents[:: max(len(latents) // 512, 1)].float(), config.mask_logits, config.mask_places)
    return embedder.eval().requires_grad_(False)


@torch.no_grad()
def calibrate_mask(embedder: VisionEmbedder, latents: Tensor, spread: float, places: float) -> None:
    """Shift and scale the mask's logits, token by token, without changing what they rank highest.

    InfoNCE drives masks to 0 and 1, and where a mask is 0 the LayerNorm after it wipes the CT out. Here the
    logits get a mean of 0, the given ``spread`` over slices and the given spread of their means over ``places``.
    """
    logits = torch.logit(embedder(latents).soft_mask[..., 0].double(), eps=1e-7).float()
    means = logits.mean(dim=0)
    scale = spread / float((logits - means).std().clamp(min=1e-6))
    place = means - means.mean()
    place = place * (places / place.std().clamp(min=1e-6))
    last = embedder.mask_mlp[2]
    assert isinstance(last, nn.Linear)
    last.weight.mul_(scale)
    # the MLP runs twice, on means and maxima, so that its bias counts twice
    last.bias.mul_(scale).add_((place - scale * means) / 2)


@torch.inference_mode()
def mask_share(embedder: VisionEmbedder, latents: Tensor) -> float:
    """Share of the soft mask's variance that comes from the slice and not from the token's place."""
    mask = embedder(latents).soft_mask[..., 0]
    return float(mask.var(dim=0, unbiased=False).mean() / mask.var(unbiased=False))


def slices_to_latents(vae: AutoencoderKL, slices: Slices, windows: Sequence[Window], count: int) -> Tensor:
    """CT latents of ``count`` slices spread over all phantoms."""
    index = torch.linspace(0, len(slices) - 1, min(count, len(slices))).long()
    return ct_latents(vae, slices.ct[index], windows)
