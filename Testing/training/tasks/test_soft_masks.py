"""The soft mask in figures and pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.training.pictures import mask_measures, mask_picture, variance_share
from DiffMaCore.training.tasks.contrast import calibrate_mask


def test_a_mask_by_place_owes_nothing_to_the_slice():
    assert variance_share(torch.rand(1, 16).expand(8, 16)) == pytest.approx(0, abs=1e-12)
    assert variance_share(torch.full((8, 16, 1), 0.3)) == 0


def test_a_mask_by_slice_owes_all_to_it():
    assert variance_share(torch.rand(8, 1, 1).expand(8, 16, 1)) == pytest.approx(1)


def test_slice_and_place_share_the_variance_that_both_cause():
    place, slice_ = torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16)
    assert variance_share(place[None] + 2 * slice_[:, None]) == pytest.approx(0.8)


def test_closed_and_open_weights_are_counted():
    found = mask_measures(torch.tensor([[0.001, 0.5, 0.5, 0.999]])[..., None])
    assert (found.closed, found.open, found.mean) == (0.25, 0.25, pytest.approx(0.5))


def test_a_calibrated_mask_follows_the_slice_and_wipes_nothing_out():
    torch.manual_seed(0)
    latents = torch.randn(64, 4, 8, 8)
    model = VisionEmbedder(8, 2, 16).requires_grad_(False)
    model.mask_mlp[2].weight.mul_(30)  # as saturated as InfoNCE leaves it
    model.mask_mlp[2].bias.add_(torch.randn(16) * 5)
    before = variance_share(model(latents).soft_mask)
    calibrate_mask(model, latents, 1.0, 0.2)
    mask = model(latents).soft_mask
    assert variance_share(mask) > max(before, 0.8)
    assert mask.min() > 0.005 and 0.4 < mask.mean() < 0.6


def test_larger_and_darker_circles_tell_greater_weights():
    mask = torch.full((1, 16, 1), 0.1)
    mask[0, 5] = 0.9  # second row, second column
    picture = np.asarray(mask_picture(np.zeros((1, 32, 32)), mask, ["a"], (-1.0, 1.0), "masks", side=160)).astype(int)
    masked = picture[18 + 160 : 18 + 320]
    background = masked[2, 2]
    at = {
        name: masked[row * 40 : row * 40 + 40, column * 40 : column * 40 + 40]
        for name, row, column in (("great", 1, 1), ("least", 2, 2))
    }
    covered = {name: (abs(cell - background).sum(axis=2) > 60).sum() for name, cell in at.items()}
    assert covered["great"] > 5 * covered["least"] > 0
    assert at["great"][20, 20].sum() < at["least"][20, 20].sum()
