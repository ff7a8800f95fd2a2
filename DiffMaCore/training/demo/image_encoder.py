"""Stage 2, the image encoder: a small vision transformer trained CLIP-style, CT slice against its own MR slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from DiffMaCore.conditions import Window, encoder_pixels, hu_to_pixels, mr_to_pixels
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.training.demo.data import Slices, augment_pair, batches
from DiffMaCore.training.demo.loop import Loop, LoopConfig


@dataclass(frozen=True)
class ImageEncoderConfig:
    """``vision_cfg`` as open_clip reads it; a second tower of the same kind sees the MRs and is thrown away."""

    vision_cfg: dict[str, Any]
    loop: LoopConfig


def train_image_encoder(
    slices: Slices, windows: Sequence[Window], width: int, config: ImageEncoderConfig, seed: int
) -> ImageEncoder:
    """The CT tower, its embeddings scaled to about unit variance a component as the denoiser expects."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    encoder, mr_encoder = (ImageEncoder(width, dict(config.vision_cfg)).train() for _ in range(2))
    log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    parameters = [*encoder.parameters(), *mr_encoder.parameters(), log_scale]
    optimiser = torch.optim.AdamW(parameters, lr=config.loop.learning_rate, weight_decay=0.05)
    loop = Loop("image encoder", config.loop, optimiser)
    order = batches(len(slices), config.loop.batch_size, config.loop.steps, generator)
    for _, index in zip(loop, order, strict=False):
        ct, mr = augment_pair(*slices.pair(index), generator)
        with torch.autocast("cpu", torch.bfloat16):
            a = encoder(encoder_pixels(hu_to_pixels(ct, windows), encoder.image_size))
            b = mr_encoder(encoder_pixels(mr_to_pixels(mr), encoder.image_size))
        similarity = F.normalize(a.float(), dim=1) @ F.normalize(b.float(), dim=1).T * log_scale.exp().clamp(max=100)
        target = torch.arange(len(index))
        loss = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
        right = float((similarity.argmax(dim=1) == target).float().mean())
        loop.update(loss, parameters, matched=right)
    encoder = encoder.eval().requires_grad_(False)
    _scale_output(encoder, slices, windows)
    return encoder


@torch.no_grad()
def _scale_output(encoder: ImageEncoder, slices: Slices, windows: Sequence[Window]) -> None:
    index = torch.linspace(0, len(slices) - 1, min(256, len(slices))).long()
    ct, _ = slices.pair(index)
    spread = encoder(encoder_pixels(hu_to_pixels(ct, windows), encoder.image_size)).std()
    projection = encoder.visual.proj
    projection.mul_(1.0 / spread.clamp(min=1e-6))
