"""How far an image is from another, for networks that give images."""

from __future__ import annotations

import math

from torch import Tensor


def image_loss(output: Tensor, target: Tensor, gradient_weight: float) -> Tensor:
    """Mean absolute error of (..., S, S) pixels, and of their differences from the next row and column."""
    loss = (output - target).abs().mean()
    for axis in (-1, -2):
        loss = loss + gradient_weight * (output.diff(dim=axis) - target.diff(dim=axis)).abs().mean()
    return loss


def psnr(output: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1], over everything."""
    return -10 * math.log10(max(float(((output - target).float() ** 2).mean()) / 4, 1e-12))
