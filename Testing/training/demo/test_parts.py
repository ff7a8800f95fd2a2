"""Data, losses and bookkeeping of training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.training.demo import data, denoiser, embedder
from DiffMaCore.training.demo.loop import Ema, Loop, LoopConfig


def test_mr_percentiles_inside_the_body_become_the_range():
    rng = np.random.default_rng(0)
    mr = rng.uniform(100, 900, (4, 30, 30)).astype(np.float32)
    body = np.zeros(mr.shape, bool)
    body[:, 5:25, 5:25] = True
    mr[~body] = 5000
    scaled = data.normalise_mr(mr, body, 0.5, 99.5)
    assert scaled.min() == -1 and scaled.max() == 1
    assert scaled[body].mean() == pytest.approx(0, abs=0.1)


def test_batches_go_through_everything_once_an_epoch_and_repeat_with_the_seed():
    found = torch.cat(list(data.batches(10, 4, 5, torch.Generator().manual_seed(0))))
    assert sorted(found[:10].tolist()) == list(range(10)) and len(found) == 20
    again = torch.cat(list(data.batches(10, 4, 5, torch.Generator().manual_seed(0))))
    assert torch.equal(found, again)


def test_ct_and_mr_of_a_pair_are_moved_alike():
    ct = torch.full((3, 24, 24), -1000.0)
    ct[:, 8:14, 6:12] = 1000.0
    moved_ct, moved_mr = data.augment_pair(ct, ct / 1000, torch.Generator().manual_seed(1))
    assert torch.allclose(moved_ct / 1000, moved_mr, atol=1e-5)
    assert not torch.allclose(moved_ct, ct)
    assert torch.allclose(moved_ct[:, 0, 0], torch.tensor(-1000.0), atol=1e-2)


def test_the_averaged_weights_follow_the_model():
    model = torch.nn.Linear(2, 2)
    ema = Ema(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for _ in range(200):
        ema.update(model)
    assert torch.allclose(ema.shadow["weight"], torch.ones(2, 2), atol=1e-3)


def test_a_loop_warms_up_decays_and_ends_after_its_steps():
    model = torch.nn.Linear(1, 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    rates = []
    for _ in Loop("test", LoopConfig(10, 1, 1.0, warmup=2), optimiser):
        rates.append(optimiser.param_groups[0]["lr"])
    assert len(rates) == 10
    assert rates[0] < rates[1] > rates[5] > rates[9] > 0
    assert len(list(Loop("test", LoopConfig(10, 1, 1.0, minutes=0.0001), optimiser))) < 10**6


def test_the_loss_weight_is_the_one_of_velocity_up_to_its_limit():
    alphas = denoiser.schedule()
    t = torch.tensor([0, 200, 999])
    snr = alphas[t] / (1 - alphas[t])
    assert torch.allclose(denoiser.loss_weight(alphas, t, 10.0), ((1 + snr) / snr).clamp(max=10), rtol=1e-4)
    assert torch.equal(denoiser.loss_weight(alphas, t, 1.0), torch.ones(3))


def _posterior_log_variance(t: int, alphas: torch.Tensor) -> tuple[float, float]:
    before = float(alphas[t - 1])
    beta = 1 - float(alphas[t]) / before
    return math.log(beta * (1 - before) / (1 - float(alphas[t]))), math.log(beta)


def test_the_variational_bound_is_zero_for_the_exact_posterior_and_grows_away_from_it():
    alphas = denoiser.schedule()
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(2, 4, 4, 4, generator=generator) for _ in range(2))
    t = torch.tensor([100, 600])
    at = alphas[t].view(-1, 1, 1, 1)
    xt = at.sqrt() * x0 + (1 - at).sqrt() * noise
    exact = denoiser.variance_loss(noise, torch.full_like(x0, -1.0), x0, xt, t, alphas)
    assert exact.abs().max() < 1e-5
    upper = denoiser.variance_loss(noise, torch.full_like(x0, 1.0), x0, xt, t, alphas)
    for k, step in enumerate(t.tolist()):
        low, high = _posterior_log_variance(step, alphas)
        expected = 0.5 * (high - low + math.exp(low - high) - 1)
        assert float(upper[k]) == pytest.approx(expected, rel=1e-2, abs=1e-6)


def test_only_the_variance_learns_from_the_bound():
    alphas = denoiser.schedule()
    x0 = torch.randn(2, 4, 4, 4)
    epsilon, v = torch.randn(2, 4, 4, 4, requires_grad=True), torch.zeros(2, 4, 4, 4, requires_grad=True)
    denoiser.variance_loss(epsilon, v, x0, x0, torch.tensor([5, 500]), alphas).sum().backward()
    assert epsilon.grad is None and v.grad is not None and v.grad.abs().max() > 0


def test_a_share_of_the_timesteps_lies_in_the_focused_range():
    config = denoiser.DenoiserConfig(16, 2, 2, 4, LoopConfig(1, 1, 1.0), focus=0.75, focus_range=(300, 700))
    t = denoiser.draw_timesteps(16, config, torch.Generator().manual_seed(0))
    assert len(t) == 16 and ((t[:12] >= 300) & (t[:12] < 700)).all()
    assert t[12:].min() < 250 and t[12:].max() >= 750
    assert torch.equal(t, denoiser.draw_timesteps(16, config, torch.Generator().manual_seed(0)))


def test_a_calibrated_mask_follows_the_slice_and_wipes_nothing_out():
    torch.manual_seed(0)
    latents = torch.randn(64, 4, 8, 8)
    model = VisionEmbedder(8, 2, 16).requires_grad_(False)
    model.mask_mlp[2].weight.mul_(30)  # as saturated as InfoNCE leaves it
    model.mask_mlp[2].bias.add_(torch.randn(16) * 5)
    before = embedder.mask_share(model, latents)
    embedder.calibrate_mask(model, latents, 1.0, 0.2)
    mask = model(latents).soft_mask
    assert embedder.mask_share(model, latents) > max(before, 0.8)
    assert mask.min() > 0.005 and 0.4 < mask.mean() < 0.6
