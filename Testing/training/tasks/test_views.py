"""Two disturbed views of every slice."""

from __future__ import annotations

import torch

from DiffMaCore.training.batches import ShardedRNG
from DiffMaCore.training.tasks.contrast import disturbed


def rng(first: int = 0, count: int = 6, step: int = 3) -> ShardedRNG:
    return ShardedRNG(seed=0, step=step, first=first, count=count, total=6, device=torch.device("cpu"))


LATENTS = torch.randn(6, 4, 16, 16, generator=torch.Generator().manual_seed(0))


def test_views_differ_from_each_other_and_from_step_to_step_and_return_with_the_seed():
    a, b = (disturbed(LATENTS, rng(), name, 0.3, 0.1, 0.3) for name in "ab")
    assert not torch.allclose(a, b)
    assert torch.equal(a, disturbed(LATENTS, rng(), "a", 0.3, 0.1, 0.3))
    assert not torch.allclose(a, disturbed(LATENTS, rng(step=4), "a", 0.3, 0.1, 0.3))


def test_two_processes_see_the_views_that_one_sees():
    whole = disturbed(LATENTS, rng(), "a", 0.3, 0.1, 0.3)
    parts = [disturbed(LATENTS[n : n + 3], rng(n, 3), "a", 0.3, 0.1, 0.3) for n in (0, 3)]
    assert torch.equal(torch.cat(parts), whole)


def test_each_disturbance_does_what_it_is_called():
    assert torch.equal(disturbed(LATENTS, rng(), "a", 0, 0, 0), LATENTS)
    noisy = disturbed(LATENTS, rng(), "a", 0.3, 0, 0) - LATENTS
    assert 0.27 < float(noisy.std()) < 0.33
    blank = disturbed(LATENTS, rng(), "a", 0, 0, 1.0)
    assert torch.allclose(blank, LATENTS.mean(dim=(2, 3), keepdim=True).expand_as(blank), atol=1e-6)
