"""Numbers of steps in, ways to sample out: schedulers with their steps, and warm starts from a guess."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from DiffMaCore.diffusion.conditions import Conditions
from DiffMaCore.diffusion.schedulers import LU_FROM, TRAIN_TIMESTEPS, describe_schedulers, make_scheduler, model_output
from DiffMaCore.inference.pipeline import DiffMaPipeline

STEPS = (5, 10, 15, 20, 30, 50, 250)
RELEASED_STEPS = 250
SPACING_STEPS = 50  # where the spacing matters
WARM_STEPS = 20  # with more there is nothing left to save
WARM_STARTS = (900, 700, 500, 300)
"""Timesteps at which a noised guess is taken up, of 999 (nothing but noise) to 0."""


@dataclass(frozen=True)
class Way:
    """One way to sample.

    Attributes:
        name: in tables.
        kind: "ode", "scheduler", "spacing" (the scheduler with other timesteps than ours), "released", "noise" (from
            another one) or "warm".
        scheduler: short name.
        steps: evaluations of the denoiser; of a warm start its guess's included.
        options: what differs from our scheduler of this name.
        guess: of a warm start: "own" (the denoiser's from pure noise), "neighbour" or "regression".
        start: timestep at which the guess is noised.
    """

    name: str
    kind: str
    scheduler: str
    steps: int
    options: tuple[tuple[str, Any], ...] = ()
    guess: str = ""
    start: int = TRAIN_TIMESTEPS - 1

    @property
    def key(self) -> str:
        return f"{self.name} {self.steps}"

    @property
    def to_ode(self) -> bool:
        """Whether it goes to the same solution; what draws noise at every step does not."""
        return self.scheduler != "ddpm"


ODE = Way("ODE (ddim)", "ode", "ddim", TRAIN_TIMESTEPS)


def ways(steps: Iterable[int] = STEPS, guesses: Sequence[str] = ("own", "neighbour")) -> list[Way]:
    """All that are compared."""
    counts = sorted(set(steps))
    names = [known["name"] for known in describe_schedulers()]
    found = [Way(name, "scheduler", name, count) for name in names for count in counts]
    for count in (count for count in counts if count <= SPACING_STEPS):
        even = ("use_lu_lambdas", False)
        found.append(Way("dpm++, Karras", "spacing", "dpm++", count, (even, ("use_karras_sigmas", True))))
        if count >= LU_FROM:
            found.append(Way("dpm++, linspace", "spacing", "dpm++", count, (even,)))
        found.append(Way("ddim, trailing", "spacing", "ddim", count, (("timestep_spacing", "trailing"),)))
    found.append(Way("dpm++, another noise", "noise", "dpm++", 20))
    found.append(Way("released: ddpm, batch 1", "released", "ddpm", RELEASED_STEPS))
    for guess in guesses:
        for start in WARM_STARTS:
            name = f"warm, {guess} at {start}"
            found += [
                Way(name, "warm", "dpm++", count, guess=guess, start=start)
                for count in counts
                if 1 < count <= WARM_STEPS
            ]
    return found


@torch.inference_mode()
def warm_start(
    pipe: DiffMaPipeline,
    conditions: Conditions,
    steps: int,
    start: int,
    seed: int,
    guess: Tensor | None = None,
    on_step: Any = None,
) -> Tensor:
    """Latents (B, 4, s, s) from a guess that is noised at timestep ``start`` with the noise of the seed.

    ``guess`` None is the denoiser's own, the clean latent that it expects of pure noise, and takes one of the steps.
    The rest are DPM-Solver++'s at even distances in time (other spacings always begin with pure noise).
    """
    noise = initial_noise(pipe, len(conditions.soft_mask), seed)
    if guess is None:
        guess = _expected(pipe, conditions, noise)
        steps -= 1
        if on_step:
            on_step()
    solver = make_scheduler("dpm++", 1, pipe.scheduler.config.prediction_type)
    times = np.linspace(start, 0, steps + 1).round()[:-1]
    solver.set_timesteps(timesteps=times.astype(int).tolist(), device=pipe.device)
    kept = float(solver.alphas_cumprod[start])
    return integrate(pipe, conditions, solver, kept**0.5 * guess + (1 - kept) ** 0.5 * noise, on_step)


def _expected(pipe: DiffMaPipeline, conditions: Conditions, noise: Tensor) -> Tensor:
    """The clean latent that the denoiser expects of pure noise."""
    solver = make_scheduler("ddim", TRAIN_TIMESTEPS, pipe.scheduler.config.prediction_type)
    solver.set_timesteps(TRAIN_TIMESTEPS, device=pipe.device)
    t = solver.timesteps[0]
    return solver.step(_predict(pipe, conditions, solver, noise, t), t, noise).pred_original_sample


def integrate(
    pipe: DiffMaPipeline, conditions: Conditions, solver: Any, latents: Tensor, on_step: Any = None
) -> Tensor:
    """From the solver's first timestep to the last; as ``pipe.denoise``, for solvers that it does not make."""
    with torch.inference_mode():
        for t in solver.timesteps:
            latents = solver.step(_predict(pipe, conditions, solver, latents, t), t, latents).prev_sample
            if on_step:
                on_step()
    return latents


def _predict(pipe: DiffMaPipeline, conditions: Conditions, solver: Any, latents: Tensor, t: Tensor) -> Tensor:
    return model_output(
        solver, pipe.denoiser(latents, t.expand(len(latents)), *conditions).sample, pipe.latent_shape[0]
    )


def solver_of(pipe: DiffMaPipeline, way: Way) -> Any:
    """The way's diffusers scheduler, ready to integrate."""
    ours = make_scheduler(way.scheduler, way.steps, pipe.scheduler.config.prediction_type)
    solver = type(ours).from_config(ours.config, **dict(way.options))
    solver.set_timesteps(way.steps, device=pipe.device)
    return solver


def initial_noise(pipe: DiffMaPipeline, count: int, seed: int) -> Tensor:
    """As ``pipe.denoise`` begins: one noise for all slices."""
    noise = torch.randn(pipe.latent_shape, generator=torch.Generator().manual_seed(seed))
    return noise.to(pipe.device, pipe.denoiser.dtype).expand(count, -1, -1, -1).clone()
