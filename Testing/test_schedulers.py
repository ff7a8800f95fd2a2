"""Schedulers by name, on a model whose noise is known exactly."""

from __future__ import annotations

import pytest
import torch

from DiffMaCore.errors import InputError
from DiffMaCore.schedulers import SCHEDULERS, make_scheduler, model_output, scheduler_name

MEAN, DEVIATION = 0.7, 0.5


def _epsilon(x: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """The exact epsilon of a Gaussian data distribution."""
    variance = alpha_bar * DEVIATION**2 + (1 - alpha_bar)
    return (1 - alpha_bar).sqrt() * (x - alpha_bar.sqrt() * MEAN) / variance


def _sample(name: str, steps: int, seed: int = 0) -> torch.Tensor:
    scheduler = make_scheduler(name, steps)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 4, 32, 32, generator=generator, dtype=torch.float64)
    for t in scheduler.timesteps:
        epsilon = _epsilon(x, scheduler.alphas_cumprod[int(t)].double())
        variance = torch.zeros_like(epsilon)
        output = model_output(scheduler, torch.cat([epsilon, variance], dim=1), 4)
        options = {"generator": generator} if name == "ddpm" else {}
        x = scheduler.step(output, t, x, **options).prev_sample
    return x


@pytest.mark.parametrize(("name", "steps"), [("dpm++", 20), ("unipc", 20), ("ddim", 50), ("ddpm", 250)])
def test_every_scheduler_reaches_the_distribution(name: str, steps: int) -> None:
    sample = _sample(name, steps)
    assert float(sample.mean()) == pytest.approx(MEAN, abs=0.05)
    assert float(sample.std()) == pytest.approx(DEVIATION, abs=0.06)


def test_the_default_at_20_steps_is_nearer_to_the_ode_than_ddim_at_as_many() -> None:
    ode = _sample("ddim", 1000)
    near, far = _sample("dpm++", 20), _sample("ddim", 20)
    assert (near - ode).abs().mean() < (far - ode).abs().mean()


def test_only_ddpm_reads_the_learned_variance() -> None:
    prediction = torch.zeros(1, 8, 2, 2)
    widths = {name: model_output(make_scheduler(name), prediction, 4).shape[1] for name in SCHEDULERS}
    assert widths == {"ddpm": 8, "ddim": 4, "dpm++": 4, "unipc": 4}


def test_the_default_uses_karras_sigmas_except_for_very_few_steps() -> None:
    assert make_scheduler("dpm++", 20).config["use_karras_sigmas"]
    assert not make_scheduler("dpm++", 10).config["use_karras_sigmas"]


def test_the_released_sampler_is_250_linspace_steps_with_learned_range() -> None:
    config = make_scheduler("ddpm", 250).config
    assert (config["variance_type"], config["timestep_spacing"]) == ("learned_range", "linspace")
    assert not config["clip_sample"]


def test_names_go_both_ways_and_an_unknown_one_names_the_nearest() -> None:
    assert [scheduler_name(make_scheduler(name)) for name in SCHEDULERS] == list(SCHEDULERS)
    with pytest.raises(InputError, match=r"did you mean dpm\+\+"):
        make_scheduler("dpm+")
