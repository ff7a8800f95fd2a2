"""What a denoiser learns."""

from __future__ import annotations

import math

import pytest
import torch

from DiffMaCore.diffusion import objective
from DiffMaCore.diffusion.schedulers import make_scheduler


def test_the_loss_weight_is_the_one_of_velocity_up_to_its_limit():
    alphas = objective.schedule()
    t = torch.tensor([0, 200, 999])
    snr = alphas[t] / (1 - alphas[t])
    assert torch.allclose(objective.loss_weight(alphas, t, 10.0), ((1 + snr) / snr).clamp(max=10), rtol=1e-4)
    assert torch.equal(objective.loss_weight(alphas, t, 1.0), torch.ones(3))


def _posterior_log_variance(t: int, alphas: torch.Tensor) -> tuple[float, float]:
    before = float(alphas[t - 1])
    beta = 1 - float(alphas[t]) / before
    return math.log(beta * (1 - before) / (1 - float(alphas[t]))), math.log(beta)


def test_the_variational_bound_is_zero_for_the_exact_posterior_and_grows_away_from_it():
    alphas = objective.schedule()
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(2, 4, 4, 4, generator=generator) for _ in range(2))
    t = torch.tensor([100, 600])
    at = alphas[t].view(-1, 1, 1, 1)
    xt = at.sqrt() * x0 + (1 - at).sqrt() * noise
    exact = objective.variance_loss(noise, torch.full_like(x0, -1.0), x0, xt, t, alphas)
    assert exact.abs().max() < 1e-5
    upper = objective.variance_loss(noise, torch.full_like(x0, 1.0), x0, xt, t, alphas)
    for k, step in enumerate(t.tolist()):
        low, high = _posterior_log_variance(step, alphas)
        expected = 0.5 * (high - low + math.exp(low - high) - 1)
        assert float(upper[k]) == pytest.approx(expected, rel=1e-2, abs=1e-6)


def test_only_the_variance_learns_from_the_bound():
    alphas = objective.schedule()
    x0 = torch.randn(2, 4, 4, 4)
    epsilon, v = torch.randn(2, 4, 4, 4, requires_grad=True), torch.zeros(2, 4, 4, 4, requires_grad=True)
    objective.variance_loss(epsilon, v, x0, x0, torch.tensor([5, 500]), alphas).sum().backward()
    assert epsilon.grad is None and v.grad is not None and v.grad.abs().max() > 0


def _problem() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(4, 4, 8, 8, generator=generator) for _ in range(2))
    return x0, noise, torch.tensor([0, 100, 600, 999]), objective.schedule()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_costs_nothing(kind):
    x0, noise, t, alphas = _problem()
    perfect = objective.target(x0, noise, t, alphas, kind)
    assert objective.diffusion_loss(perfect, x0, noise, t, alphas, kind)[0] == 0
    with_variance = torch.cat([perfect, torch.full_like(perfect, -1.0)], dim=1)
    loss, figures = objective.diffusion_loss(with_variance, x0, noise, t, alphas, kind, vlb_weight=1e-3)
    assert float(figures["mse"]) == 0
    assert float(loss) == pytest.approx(float(figures["bound"]))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_prediction_implies_the_noise_and_the_clean_latent(kind):
    x0, noise, t, alphas = _problem()
    xt = objective.add_noise(x0, noise, t, alphas)
    epsilon, clean = objective.implied(objective.target(x0, noise, t, alphas, kind), xt, t, alphas, kind)
    assert torch.allclose(epsilon, noise, atol=1e-4) and torch.allclose(clean, x0, atol=1e-2)


def test_targets_are_those_of_the_schedulers():
    x0, noise, t, alphas = _problem()
    scheduler = make_scheduler("ddpm")
    assert torch.allclose(objective.add_noise(x0, noise, t, alphas), scheduler.add_noise(x0, noise, t), atol=1e-5)
    v = objective.target(x0, noise, t, alphas, "v_prediction")
    assert torch.allclose(v, scheduler.get_velocity(x0, noise, t), atol=1e-5)


def test_without_learned_variance_and_weights_the_loss_is_the_papers():
    x0, noise, t, alphas = _problem()
    output = torch.randn_like(x0)
    loss, figures = objective.diffusion_loss(output, x0, noise, t, alphas)
    assert set(figures) == {"mse"} and torch.allclose(loss, torch.nn.functional.mse_loss(output, noise))


def test_spread_places_take_one_timestep_out_of_every_stratum():
    place = (torch.arange(10) + torch.rand(10)) / 10
    assert (objective.spread_timesteps(place) // 100).tolist() == list(range(10))
    assert int(objective.spread_timesteps(torch.tensor([0.9999999]))) == 999


def test_weighted_epsilon_and_bound_add_up_as_in_the_demos_chain():
    x0, noise, t, alphas = _problem()
    generator = torch.Generator().manual_seed(1)
    output, v = (torch.randn(x0.shape, generator=generator) for _ in range(2))
    weight = objective.loss_weight(alphas, t, 10.0)
    error = ((output - noise) ** 2).mean(dim=(1, 2, 3))
    bound = objective.variance_loss(output, v, x0, objective.add_noise(x0, noise, t, alphas), t, alphas).mean()
    expected = (weight * error).mean() / weight.mean() + 1e-3 * 1000 * bound
    found, _ = objective.diffusion_loss(torch.cat([output, v], 1), x0, noise, t, alphas, "epsilon", 1e-3, 10.0)
    assert torch.allclose(found, expected)
