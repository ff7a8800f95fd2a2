"""A run that ends at any moment goes on as if it had not."""

from __future__ import annotations

import copy
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from DiffMaCore.errors import InputError, TrainingError
from DiffMaCore.progress import Reporter
from DiffMaCore.training.batches import stream
from DiffMaCore.training.checkpoints import Checkpoints, restore, state
from DiffMaCore.training.run_folder import RunFolder
from DiffMaCore.training.trainer import make_accelerator, train
from Testing.training.trainer.tiny_run import Denoise, Slices, losses, tiny_config


class Listener(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)

    def warning(self, message: str) -> None:
        self.said.append(message)


def run_here(folder: Path, task: Denoise | None = None, **config: object) -> Listener:
    listener = Listener()
    train(task or Denoise(Slices()), tiny_config(**config), RunFolder(folder), 0, listener, make_accelerator("cpu"))
    return listener


def wait_for_step(folder: Path, step: int) -> None:
    deadline = time.monotonic() + 60
    while max(losses(folder), default=0) < step:
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.02)


def test_after_a_kill_mid_epoch_the_next_50_losses_are_those_of_an_unbroken_run(tmp_path, start):
    config = {"steps": 70, "log_every": 1, "checkpoint_every": 6}
    run_here(tmp_path / "unbroken", **config)
    # five batches an epoch and 8 slices of 5 ms a batch: a kill lands between two checkpoints, inside an epoch
    victim = start(tmp_path / "killed", slow=0.005, **config)
    wait_for_step(tmp_path / "killed", 15)
    victim.kill()
    victim.join()
    (newest, *_) = Checkpoints(tmp_path / "killed" / "checkpoints").newest_first()
    assert 12 <= int(newest.stem.removeprefix("step_")) <= 20
    assert RunFolder(tmp_path / "killed").account()["status"] == "training"

    run_here(tmp_path / "killed", **config)
    expected, found = losses(tmp_path / "unbroken"), losses(tmp_path / "killed")
    assert found == expected  # to the last digit, those after the kill and those before
    assert len(found) == 70
    account = RunFolder(tmp_path / "killed").account()
    assert account["status"] == "finished"
    assert [s["ended"] is None for s in account["sessions"]] == [True, False]


def test_control_c_saves_and_says_how_to_go_on(tmp_path, start):
    folder = tmp_path / "run"
    child = start(folder, slow=0.005, steps=1000, checkpoint_every=1000, workers=1)
    wait_for_step(folder, 3)
    os.killpg(child.pid, signal.SIGINT)  # a terminal sends it to the processes that read data as well
    child.join(30)
    assert child.exitcode == 130
    assert "Traceback" not in folder.with_suffix(".err").read_text()
    step = max(losses(folder))
    said = folder.with_suffix(".out").read_text().strip()
    assert said == f"stopped after step {step} of 1000; the same command goes on from there"
    assert [p.stem for p in Checkpoints(folder / "checkpoints").newest_first()] == [f"step_{step:08d}"]
    assert RunFolder(folder).account()["status"] == "stopped"


def test_sigterm_saves_too_and_averages_over_several_steps_survive_a_stop_between_two_rows(tmp_path):
    run_here(tmp_path / "unbroken", log_every=4, steps=12)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 6 of 12"):
        run_here(tmp_path / "broken", log_every=4, steps=12, task=Stopping(at=6))
    run_here(tmp_path / "broken", log_every=4, steps=12)
    assert losses(tmp_path / "broken") == losses(tmp_path / "unbroken")


class Stopping(Denoise):
    """Is ended in its step ``at``."""

    def __init__(self, at: int) -> None:
        super().__init__(Slices())
        self.at = at

    def loss(self, model, batch, draws):
        if draws.step == self.at - 1:
            self.at = -1
            signal.raise_signal(signal.SIGTERM)
        return super().loss(model, batch, draws)


def test_a_damaged_newest_checkpoint_is_told_of_and_the_one_before_is_used(tmp_path):
    run_here(tmp_path, steps=10)
    newest, before = Checkpoints(tmp_path / "checkpoints").newest_first()
    content = bytearray(newest.read_bytes())
    content[-20] ^= 255  # one flipped byte: as long as before
    newest.write_bytes(content)
    expected = losses(tmp_path)
    listener = run_here(tmp_path, steps=10)
    assert f"the checkpoint {newest.name} is damaged" in listener.said[0]
    assert RunFolder(tmp_path).account()["sessions"][-1]["first_step"] == int(before.stem[5:])
    assert losses(tmp_path) == expected


def test_a_checkpoint_cut_short_is_damaged(tmp_path):
    run_here(tmp_path, steps=10)
    newest, _ = Checkpoints(tmp_path / "checkpoints").newest_first()
    newest.write_bytes(newest.read_bytes()[:-100])
    assert "damaged" in run_here(tmp_path, steps=10).said[0]


def test_a_run_can_be_made_longer_and_goes_on_with_the_losses_of_a_long_one(tmp_path):
    run_here(tmp_path / "long", steps=20)
    run_here(tmp_path / "short", steps=9)
    run_here(tmp_path / "short", steps=20)
    assert losses(tmp_path / "short") == losses(tmp_path / "long")


def test_a_finished_run_is_not_trained_again(tmp_path):
    run_here(tmp_path, steps=5)
    before = (tmp_path / "run.json").read_bytes()
    assert "trained already" in run_here(tmp_path, steps=5).said[0]
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "width", "name"),
    [({"learning_rate": 0.02}, 16, "train.learning_rate = 0.01"), ({}, 24, "denoiser.width = 16")],
)
def test_a_run_does_not_go_on_under_another_configuration(tmp_path, changes, width, name):
    run_here(tmp_path, steps=5)
    with pytest.raises(InputError, match=name):
        run_here(tmp_path, Denoise(Slices(), width), steps=9, **changes)


def test_how_often_it_logs_and_how_many_read_may_change_within_a_run(tmp_path):
    run_here(tmp_path, steps=5)
    run_here(tmp_path, steps=8, checkpoint_every=2, micro_batch=4, workers=1)
    assert RunFolder(tmp_path).finished == 8


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_slice(tmp_path):
    with pytest.raises(TrainingError) as error:
        run_here(tmp_path, Denoise(Slices(spoilt=23)), steps=5)
    assert "target_latent of case head_2, slice 3 is not finite" in str(error.value)
    account = RunFolder(tmp_path).account()
    assert account["status"] == "failed"
    assert "case head_2, slice 3" in account["failure"]["batch"]
    assert len(account["failure"]["batch"]) == 8
    assert account["failure"]["step"] == account["step"] + 1


def test_a_gradient_that_is_not_finite_names_the_batch_and_where(tmp_path):
    class Overflowing(Denoise):
        def loss(self, model, batch, draws):
            loss, figures = super().loss(model, batch, draws)
            if draws.step == 3:
                self.model[2].weight.register_hook(lambda gradient: gradient * float("inf"))
            return loss, figures

    with pytest.raises(TrainingError, match=r"step 4 .* first in 2\.weight, though all data .*case head_\d, slice"):
        run_here(tmp_path, Overflowing(Slices()), steps=5)
    assert max(losses(tmp_path)) == 3


def test_a_channels_last_network_goes_on_to_the_bit(tmp_path):
    def begun():
        torch.manual_seed(0)
        model = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
        return model, torch.optim.AdamW(model.parameters(), 0.1, fused=True), dict(model.named_parameters())

    def step(model, optimiser, number):
        optimiser.zero_grad()
        model(torch.randn(2, 4, 8, 8, generator=stream(number))).square().mean().backward()
        optimiser.step()

    model, optimiser, parameters = begun()
    step(model, optimiser, 1)
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(state(model, copy.deepcopy(model), optimiser, parameters), {"step": 1})
    step(model, optimiser, 2)
    again, other, named = begun()
    restore(checkpoints.load(path), again, copy.deepcopy(again), other, named)
    step(again, other, 2)
    assert torch.equal(again.weight, model.weight)
