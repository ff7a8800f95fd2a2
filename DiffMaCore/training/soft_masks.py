"""The soft mask in figures and pictures: what it owes to the slice, and where it looks (paper, Figure 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn

from DiffMaCore.imaging.pictures import CAPTION_HEIGHT, grey
from DiffMaCore.models.embedder import VisionEmbedder

SPREAD = 1.3  # standard deviation of calibrated logits about each token's mean
PLACES = 0.3  # the same of the tokens' means
_SMOOTH = 3  # circles are drawn this many times larger
_LIGHT, _DARK = np.array((250.0, 222.0, 160.0)), np.array((120.0, 0.0, 10.0))


@dataclass(frozen=True)
class MaskFigures:
    """What the masks (N, L, 1) of N slices are like.

    Attributes:
        share: of the variance that comes from the slice and not from the token's place, 0 to 1.
        mean: of all weights.
        closed: share of the weights below 0.01: the denoiser's masked branch sees next to nothing of such tokens.
        open: share of the weights above 0.99.
    """

    share: float
    mean: float
    closed: float
    open: float


def variance_share(masks: Tensor) -> float:
    """Share of the variance of masks (N, L) or (N, L, 1) that comes from the slice and not from the place; a mask
    that does not vary has none."""
    masks = masks.double().reshape(len(masks), -1)
    whole = float(masks.var(unbiased=False))
    return float(masks.var(dim=0, unbiased=False).mean()) / whole if whole > 1e-12 else 0.0


def mask_figures(masks: Tensor) -> MaskFigures:
    """Figures of masks (N, L, 1)."""
    return MaskFigures(
        share=variance_share(masks),
        mean=float(masks.mean()),
        closed=float((masks < 0.01).float().mean()),
        open=float((masks > 0.99).float().mean()),
    )


@torch.no_grad()
def calibrate_mask(embedder: VisionEmbedder, latents: Tensor, spread: float = SPREAD, places: float = PLACES) -> None:
    """Shift and scale the mask's logits, token by token, without changing what they rank highest.

    InfoNCE drives masks to 0 and 1, and what a mask of 0 covers is lost to the denoiser's masked branch, and to the
    CT embedding once its LayerNorm sees nothing but rounding. Here the logits get a mean of 0, the given ``spread``
    over slices and the given spread of their means over ``places``; so the share that follows the slice is set, too.
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


def mask_picture(
    sources: NDArray[np.floating],
    masks: Tensor,
    labels: Sequence[str],
    window: tuple[float, float],
    caption: str,
    side: int = 320,
) -> Image.Image:
    """The masks over their slices, one column a slice: above the source, below it pale and with a circle a token,
    the larger and darker the more important, from the least of the pictured weights to the greatest.

    Args:
        sources: slices (N, S, S).
        masks: (N, L, 1), L a square number.
        labels: what each slice is.
        window: source values shown black and white.
        caption: printed below.
        side: of one slice in screen pixels.
    """
    values = masks.double().reshape(len(masks), -1).numpy()
    grid = math.isqrt(values.shape[1])
    low, high = float(values.min()), float(values.max())
    strength = (values - low) / max(high - low, 1e-9)
    canvas = Image.new("RGB", (side * len(sources), 2 * side + 2 * CAPTION_HEIGHT))
    draw = ImageDraw.Draw(canvas)
    for n, (tile, label) in enumerate(zip(grey(sources, window), labels, strict=True)):
        slice_ = Image.fromarray(tile).resize((side, side), Image.Resampling.BICUBIC)
        draw.text((n * side + 4, 3), label, fill="white")
        canvas.paste(slice_.convert("RGB"), (n * side, CAPTION_HEIGHT))
        canvas.paste(_circles(slice_, strength[n].reshape(grid, grid)), (n * side, CAPTION_HEIGHT + side))
    text = f"{caption}; circles: weight {low:.2f} (small, pale) to {high:.2f} (large, dark)"
    draw.text((4, canvas.height - CAPTION_HEIGHT + 3), text, fill="white")
    return canvas


def _circles(slice_: Image.Image, strength: NDArray[np.floating]) -> Image.Image:
    """A pale copy of a slice with one circle for each of (G, G) strengths, 0 to 1."""
    large = slice_.width * _SMOOTH
    pale = slice_.point(lambda v: round(150 + v * 105 / 255)).convert("RGB").resize((large, large))
    draw = ImageDraw.Draw(pale)
    cell = large / len(strength)
    for (row, column), value in np.ndenumerate(strength):
        radius = cell * (0.08 + 0.40 * float(value))
        colour = tuple(int(c) for c in _LIGHT + (_DARK - _LIGHT) * value)
        centre = ((column + 0.5) * cell, (row + 0.5) * cell)
        draw.ellipse(tuple(c + d for d in (-radius, radius) for c in centre), fill=colour)
    return pale.resize(slice_.size, Image.Resampling.LANCZOS)
