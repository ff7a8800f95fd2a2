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


def test_a_squared_loss_is_least_at_the_mean_of_what_may_be_true_and_an_absolute_one_at_the_median():
    may_be = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).expand(3, 8, 8)  # two of three say 0
    said = [torch.full((3, 8, 8), value) for value in (0.0, 1 / 3)]
    squared = [float(image_loss(each, may_be, 0.0, squared=True)) for each in said]
    absolute = [float(image_loss(each, may_be, 0.0)) for each in said]
    assert squared[1] < squared[0] and absolute[0] < absolute[1]
