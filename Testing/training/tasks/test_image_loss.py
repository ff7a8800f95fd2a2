"""How far an image is from another, for networks that give images."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

from DiffMaCore.training.tasks.images import SSIM_WINDOW, image_loss, ssim


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 24, 24, generator=generator) * 2 - 1
    return (target + 0.2 * torch.randn(2, 24, 24, generator=generator)).clamp(-1, 1), target


def test_the_ssim_that_is_trained_is_the_one_that_is_measured(pair):
    known = [
        structural_similarity(a.numpy(), b.numpy(), win_size=SSIM_WINDOW, data_range=2, use_sample_covariance=False)
        for a, b in zip(*pair, strict=True)
    ]
    assert float(ssim(*pair)) == pytest.approx(sum(known) / 2, abs=1e-4)


def test_the_loss_counts_pixels_differences_and_ssim_each_by_its_weight(pair):
    output, target = pair
    pixels = float((output - target).abs().mean())
    across, down = ((output.diff(dim=axis) - target.diff(dim=axis)).abs().mean() for axis in (-1, -2))
    assert float(image_loss(output, target, 0.0)) == pytest.approx(pixels)
    expected = pixels + 0.5 * float(across + down) + 0.3 * (1 - float(ssim(output, target)))
    assert float(image_loss(output, target, 0.5, 0.3)) == pytest.approx(expected)
    assert float(image_loss(target, target, 0.5, 0.3)) == pytest.approx(0.0, abs=1e-6)
