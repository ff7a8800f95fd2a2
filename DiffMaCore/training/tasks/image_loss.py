"""How far an image is from another, for networks that give images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SSIM_WINDOW = 7  # pixels
SQUARED = 5.0  # times the squared error, which so is as steep as the absolute one where that is 0.1


def image_loss(
    output: Tensor, target: Tensor, gradient_weight: float, ssim_weight: float = 0.0, squared: bool = False
) -> Tensor:
    """Mean absolute (or squared, times 5) error of (..., S, S) pixels in [-1, 1] and of their differences from the next
    row and column, and what their SSIM lacks to 1."""
    off = output.float() - target
    errors = [(1.0, off), *((gradient_weight, off.diff(dim=axis)) for axis in (-1, -2))]
    loss = torch.stack([w * (SQUARED * e**2 if squared else e.abs()).mean() for w, e in errors]).sum()
    return loss + ssim_weight * (1 - ssim(output.float(), target)) if ssim_weight else loss


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean SSIM (Wang et al. 2004, square window) of (B, S, S) images in [-1, 1], to be differentiated."""
    moments = F.avg_pool2d(torch.stack([a, b, a * a, b * b, a * b], dim=1), SSIM_WINDOW, stride=1)
    mean_a, mean_b, square_a, square_b, product = moments.unbind(dim=1)
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    both = mean_a * mean_b
    squares = mean_a**2 + mean_b**2
    likeness = (2 * both + c1) * (2 * (product - both) + c2)
    return (likeness / ((squares + c1) * (square_a + square_b - squares + c2))).mean()


def psnr(output: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [-1, 1], over everything."""
    return -10 * math.log10(max(float(((output - target).float() ** 2).mean()) / 4, 1e-12))
