"""A short name in, one of diffusers' schedulers out, with the paper's noise schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from DiffMaCore.configuring import nearest
from DiffMaCore.errors import InputError

if TYPE_CHECKING:
    import torch
    from diffusers import SchedulerMixin

TRAIN_TIMESTEPS = 1000
NOISE_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": TRAIN_TIMESTEPS,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}
DEFAULT_SCHEDULER = "dpm++"
DEFAULT_STEPS = 15

# class in diffusers, and what differs from its defaults
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    # 250 steps of this are the released ancestral sampler; "leading" or "trailing" spacing would differ
    "ddpm": (
        "DDPMScheduler",
        {"variance_type": "learned_range", "clip_sample": False, "timestep_spacing": "linspace"},
    ),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True, "timestep_spacing": "linspace"}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": ("UniPCMultistepScheduler", {"timestep_spacing": "linspace"}),
}
SCHEDULERS = tuple(_KINDS)
# for people who choose one: title, fewest steps that give a fair image, and what to know
_ABOUT = {
    "dpm++": ("DPM-Solver++ (2M)", 10, "The default; 10 to 20 steps suffice."),
    "unipc": ("UniPC", 10, "Another fast solver; as many steps as DPM-Solver++."),
    "ddim": ("DDIM", 20, "Slower to converge; give it 50 steps or more."),
    "ddpm": ("DDPM", 100, "The released sampler: adds noise at every step and wants about 250."),
}
LU_FROM = 8  # with fewer, linspace is nearer to the ODE of an exact denoiser; see docs/benchmarks.md


def check_sampling(
    steps: int, seed: int = 0, samples: int = 1, batch_size: int | None = None, scheduler: str | None = None
) -> None:
    """Find numbers out of range and unknown names before any long work.

    Raises:
        InputError: one of them cannot be meant; for a name, with the nearest one.
    """
    if scheduler is not None:
        _check_name(scheduler)
    limits = (("steps", steps, 1, 1000), ("seed", seed, 0, None), ("samples", samples, 1, 1000))
    for name, value, least, most in (*limits, ("batch size", batch_size, 1, None)):
        if value is not None and (value < least or (most is not None and value > most)):
            raise InputError(
                f"{name} is {value}; it must be {f'from {least} to {most}' if most else f'{least} or more'}"
            )


def describe_schedulers() -> list[dict[str, Any]]:
    """What to tell someone who chooses: name, title, min_steps (fewer spoil the image) and a note; default first."""
    names = sorted(SCHEDULERS, key=list(_ABOUT).index)
    return [dict(zip(("name", "title", "min_steps", "note"), (name, *_ABOUT[name]), strict=True)) for name in names]


def _check_name(name: str) -> None:
    if name not in _KINDS:
        near = nearest(name, SCHEDULERS)
        hint = f"; did you mean {near}?" if near else ""
        raise InputError(f"no scheduler is called {name!r}{hint} (there are {', '.join(SCHEDULERS)})")


def make_scheduler(
    name: str = DEFAULT_SCHEDULER,
    steps: int = DEFAULT_STEPS,
    prediction_type: str = "epsilon",
    learned_variance: bool = True,
) -> SchedulerMixin:
    """A diffusers scheduler: "ddpm", "ddim", "dpm++" (2M, from 8 steps on at even distances of log-SNR) or "unipc".

    Args:
        steps: sampling steps it is meant for.
        prediction_type: what the denoiser was trained to predict: "epsilon", as in the paper (Eq. 9), or
            "v_prediction" (Salimans and Ho 2022).
        learned_variance: whether the denoiser also predicts the variance range; "ddpm" takes the posterior's
            variance where it does not.

    Raises:
        InputError: no scheduler has this name.
    """
    import diffusers

    _check_name(name)
    class_name, options = _KINDS[name]
    options = {**options, **step_options(name, steps)}
    if name == "ddpm" and not learned_variance:
        options = {**options, "variance_type": "fixed_small"}
    return getattr(diffusers, class_name)(**NOISE_SCHEDULE, prediction_type=prediction_type, **options)


def step_options(name: str, steps: int) -> dict[str, Any]:
    """What a scheduler's configuration depends on the number of steps in."""
    return {"use_lu_lambdas": steps >= LU_FROM} if name == "dpm++" else {}


def scheduler_name(scheduler: SchedulerMixin) -> str:
    """Short name of a diffusers scheduler, or its class name where it is not one of ours."""
    class_name = type(scheduler).__name__
    return next((name for name, (known, _) in _KINDS.items() if known == class_name), class_name)


def model_output(scheduler: SchedulerMixin, prediction: torch.Tensor, latent_channels: int) -> torch.Tensor:
    """What this scheduler takes of a prediction (B, C or 2C, S, S): only DDPM reads a learned variance."""
    if type(scheduler).__name__ == "DDPMScheduler" and str(scheduler.config.variance_type).startswith("learned"):
        return prediction
    return prediction[:, :latent_channels]
