"""Schedulers by name, on a model whose noise is known exactly."""

from __future__ import annotations

import pytest
import torch

from DiffMaCore.diffusion.schedulers import SCHEDULERS, make_scheduler, model_output, scheduler_name
from DiffMaCore.errors import InputError

MEAN, DEVIATION = 0.7, 0.5


def _epsilon(x: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """The exact epsilon of a Gaussian data distribution."""
    variance = alpha_bar * DEVIATION**2 + (1 - alpha_bar)
    return (1 - alpha_bar).sqrt() * (x - alpha_bar.sqrt() * MEAN) / variance


def _sample(name: str, steps: int, prediction_type: str = "epsilon") -> torch.Tensor:
    scheduler = make_scheduler(name, steps, prediction_type)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 32, 32, generator=generator, dtype=torch.float64)
    for t in scheduler.timesteps:
        alpha_bar = scheduler.alphas_cumprod[int(t)].double()
        prediction = _epsilon(x, alpha_bar)
        if prediction_type == "v_prediction":
            prediction = (prediction - (1 - alpha_bar).sqrt() * x) / alpha_bar.sqrt()
        output = model_output(scheduler, torch.cat([prediction, torch.zeros_like(prediction)], dim=1), 4)
        options = {"generator": generator} if name == "ddpm" else {}
        x = scheduler.step(output, t, x, **options).prev_sample
    return x


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("name", "steps"), [("dpm++", 20), ("unipc", 20), ("ddim", 50), ("ddpm", 250)])
def test_every_scheduler_reaches_the_distribution(name: str, steps: int, prediction_type: str) -> None:
    sample = _sample(name, steps, prediction_type)
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


def test_ddpm_samples_a_denoiser_that_predicts_no_variance() -> None:
    scheduler = make_scheduler("ddpm", 10, learned_variance=False)
    scheduler.set_timesteps(10)
    x = torch.ones(1, 4, 2, 2)
    assert torch.isfinite(scheduler.step(x, scheduler.timesteps[0], x).prev_sample).all()


def test_the_default_steps_evenly_in_log_snr_except_for_very_few_steps() -> None:
    solver = make_scheduler("dpm++", 15)
    solver.set_timesteps(15)
    distances = solver.alphas_cumprod[solver.timesteps].double().logit().diff()
    assert torch.allclose(distances, distances.mean(), rtol=0.1), "timesteps are whole numbers, so not exactly even"
    assert not make_scheduler("dpm++", 5).config["use_lu_lambdas"]


def test_the_released_sampler_is_250_linspace_steps_with_learned_range() -> None:
    config = make_scheduler("ddpm", 250).config
    assert (config["variance_type"], config["timestep_spacing"]) == ("learned_range", "linspace")
    assert not config["clip_sample"]


def test_names_go_both_ways_and_an_unknown_one_names_the_nearest() -> None:
    assert [scheduler_name(make_scheduler(name)) for name in SCHEDULERS] == list(SCHEDULERS)
    with pytest.raises(InputError, match=r"did you mean dpm\+\+"):
        make_scheduler("dpm+")


def _released_step(x: torch.Tensor, output: torch.Tensor, t: int, before: int, noise: torch.Tensor) -> torch.Tensor:
    """One ancestral step with learned variance range, written from Nichol and Dhariwal 2021 (Eqs. 9, 10, 15)."""
    alpha_bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    bar = alpha_bars[t]
    previous = alpha_bars[before] if before >= 0 else torch.tensor(1.0, dtype=torch.float64)
    beta = 1 - bar / previous
    epsilon, fraction = output.chunk(2, dim=1)
    start = (x - (1 - bar).sqrt() * epsilon) / bar.sqrt()
    mean = previous.sqrt() * beta / (1 - bar) * start + (1 - beta).sqrt() * (1 - previous) / (1 - bar) * x
    if before < 0:
        return mean
    posterior = (beta * (1 - previous) / (1 - bar)).log()
    blend = (fraction + 1) / 2
    return mean + (0.5 * (blend * beta.log() + (1 - blend) * posterior)).exp() * noise


def test_250_ddpm_steps_are_the_released_ancestral_sampler() -> None:
    scheduler = make_scheduler("ddpm", 250)
    scheduler.set_timesteps(250)
    times = [int(t) for t in scheduler.timesteps]
    assert (times[0], times[-1], len(times)) == (999, 0, 250)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs, ours = start, start
    noises, twin = (torch.Generator().manual_seed(1) for _ in range(2))
    for t, before in zip(times, [*times[1:], -1], strict=True):
        alpha_bar = scheduler.alphas_cumprod[t].double()
        outputs = [torch.cat([_epsilon(x, alpha_bar), x.tanh()], dim=1) for x in (theirs, ours)]
        noise = torch.randn(1, 4, 8, 8, generator=noises, dtype=torch.float64) if t else torch.zeros(1)
        theirs = _released_step(theirs, outputs[0], t, before, noise)
        ours = scheduler.step(outputs[1], torch.tensor(t), ours, generator=twin).prev_sample
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
