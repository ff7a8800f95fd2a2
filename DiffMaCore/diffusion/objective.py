"""Latents, noise and a denoiser's output in, its loss out (paper, Eq. 9): of noise or velocity, and of a variance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from DiffMaCore.diffusion.conditions import Conditions, over_four_grids
from DiffMaCore.diffusion.schedulers import TRAIN_TIMESTEPS, make_scheduler

PredictionType = Literal["epsilon", "v_prediction"]


def schedule() -> Tensor:
    """Cumulative alpha of every training timestep (1000,), the schedulers' own."""
    return make_scheduler("ddpm").alphas_cumprod


def spread_timesteps(place: Tensor, low: int = 0, high: int = TRAIN_TIMESTEPS) -> Tensor:
    """Places (B,) in [0, 1) to timesteps (B,) from ``low`` to below ``high``.

    Places (k + u) / B with u uniform are one draw in every equal stratum: fewer of a batch's timesteps fall together.
    """
    return (low + place * (high - low)).long().clamp(max=high - 1)


def add_noise(x0: Tensor, noise: Tensor, t: Tensor, alphas: Tensor) -> Tensor:
    """Clean latents (B, 4, S, S) after ``t`` (B,) steps of noise."""
    at = _of(alphas, t)
    return at.sqrt() * x0 + (1 - at).sqrt() * noise


def target(x0: Tensor, noise: Tensor, t: Tensor, alphas: Tensor, prediction_type: PredictionType) -> Tensor:
    """What the network should say: the noise, or v (Salimans and Ho 2022)."""
    if prediction_type == "epsilon":
        return noise
    at = _of(alphas, t)
    return at.sqrt() * noise - (1 - at).sqrt() * x0


def implied(
    output: Tensor, xt: Tensor, t: Tensor, alphas: Tensor, prediction_type: PredictionType
) -> tuple[Tensor, Tensor]:
    """The noise and the clean latent that a prediction of noisy latents ``xt`` amounts to."""
    at = _of(alphas, t)
    signal, sigma = at.sqrt(), (1 - at).sqrt()
    if prediction_type == "epsilon":
        return output, (xt - sigma * output) / signal
    return signal * output + sigma * xt, signal * xt - sigma * output


def mean_of(
    model: Callable[..., Any],
    conditions: Conditions,
    contrast: Tensor | None,
    alphas: Tensor,
    latent_shape: tuple[int, int, int],
    grid_shift: int,
) -> Tensor:
    """Conditional mean (B, C, S, S) that a network of v gives: its answer to no noise at the last timestep, over four
    grids of tokens where ``grid_shift`` is not 0."""
    count, device = len(conditions.soft_mask), conditions.soft_mask.device
    nothing = conditions.soft_mask.new_zeros(count, *latent_shape)
    t = torch.full((count,), len(alphas) - 1, device=device)

    def expected(given: Conditions) -> Tensor:
        v = model(nothing, t, *given, contrast=contrast).sample.float()
        return implied(v, nothing, t, alphas.to(device), "v_prediction")[1]

    return over_four_grids(expected, conditions, grid_shift)


def loss_weight(alphas: Tensor, t: Tensor, max_weight: float) -> Tensor:
    """min((1 + SNR) / SNR, max_weight) of timesteps (B,)."""
    return (1.0 / alphas[t]).clamp(max=max_weight) if max_weight > 1 else torch.ones(len(t), device=t.device)


def variance_loss(epsilon: Tensor, v: Tensor, x0: Tensor, xt: Tensor, t: Tensor, alphas: Tensor) -> Tensor:
    """Variational bound in nats a dimension (B,), with the mean fixed so that only ``v`` learns from it
    (Nichol and Dhariwal 2021, Eq. 16).

    Args:
        epsilon, v: the prediction's two halves (B, 4, S, S); ``v`` in [-1, 1] goes from the smallest to the
            largest admissible log variance.
        x0, xt: clean and noisy latents.
        t: timesteps (B,).
        alphas: cumulative alphas.
    """
    previous_all = torch.cat([alphas.new_ones(1), alphas[:-1]])
    betas = 1 - alphas / previous_all
    at, before, beta = (_of(a, t) for a in (alphas, previous_all, betas))
    smallest_all = betas * (1 - previous_all) / (1 - alphas)
    smallest_all = torch.cat([smallest_all[1:2], smallest_all[1:]])
    low, high = _of(smallest_all, t).log(), beta.log()
    c0 = before.sqrt() * beta / (1 - at)
    guess = (xt - (1 - at).sqrt() * epsilon.detach()) / at.sqrt()
    share = (v + 1) / 2
    log_variance = share * high + (1 - share) * low
    gap = c0 * (x0 - guess)
    bound = 0.5 * (log_variance - low + (low - log_variance).exp() - 1 + gap**2 * (-log_variance).exp())
    return bound.mean(dim=(1, 2, 3))


def diffusion_loss(
    prediction: Tensor,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    alphas: Tensor,
    prediction_type: PredictionType = "epsilon",
    vlb_weight: float = 0.0,
    max_weight: float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a prediction (B, 4, S, S), or (B, 8, S, S) where the variance is learned.

    Args:
        prediction: the network's answer to ``add_noise(x0, noise, t, alphas)``.
        x0, noise: clean latents and the noise in them (B, 4, S, S).
        t: timesteps (B,).
        alphas: cumulative alphas, on the same device.
        prediction_type: "epsilon" or "v_prediction".
        vlb_weight: of the variational bound, summed over the timesteps; for a learned variance alone.
        max_weight: above 1, epsilon errors are weighted by :func:`loss_weight`.

    Returns:
        The mean loss, and its parts, detached: ``mse`` and, with a learned variance, ``bound``.
    """
    output, *variance = prediction.float().split(x0.shape[1], dim=1)
    error = ((output - target(x0, noise, t, alphas, prediction_type)) ** 2).mean(dim=(1, 2, 3))
    weighted = prediction_type == "epsilon" and max_weight > 1
    weight = loss_weight(alphas, t, max_weight) if weighted else torch.ones_like(error)
    loss = (weight * error).mean() / weight.mean()
    metrics = {"mse": error.detach().mean()}
    if variance:
        xt = add_noise(x0, noise, t, alphas)
        epsilon, _ = implied(output, xt, t, alphas, prediction_type)
        bound = variance_loss(epsilon, variance[0], x0, xt, t, alphas).mean()
        loss = loss + vlb_weight * TRAIN_TIMESTEPS * bound
        metrics["bound"] = bound.detach()
    return loss, metrics


def _of(values: Tensor, t: Tensor) -> Tensor:
    return values[t].view(-1, 1, 1, 1)
