"""Data, losses and bookkeeping of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from DiffMaCore.training.demo import data, denoiser
from DiffMaCore.training.demo.loop import Ema, Loop, LoopConfig
from DiffMaCore.volumes.intensity import normalise


def test_mr_percentiles_inside_the_body_become_the_range():
    rng = np.random.default_rng(0)
    mr = rng.uniform(100, 900, (4, 30, 30)).astype(np.float32)
    body = np.zeros(mr.shape, bool)
    body[:, 5:25, 5:25] = True
    mr[~body] = 5000
    scaled = normalise(mr, body, 0.5, 99.5)
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


def test_a_share_of_the_timesteps_lies_in_the_focused_range():
    config = denoiser.DenoiserConfig(16, 2, 2, 4, LoopConfig(1, 1, 1.0), focus=0.75, focus_range=(300, 700))
    t = denoiser.draw_timesteps(16, config, torch.Generator().manual_seed(0))
    assert len(t) == 16 and ((t[:12] >= 300) & (t[:12] < 700)).all()
    assert t[12:].min() < 250 and t[12:].max() >= 750
    assert torch.equal(t, denoiser.draw_timesteps(16, config, torch.Generator().manual_seed(0)))
