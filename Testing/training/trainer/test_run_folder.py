"""What a run leaves behind: an account of itself, figures, pictures, checkpoints, and nothing half-written."""

from __future__ import annotations

import errno
import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image

from DiffMaCore import files
from DiffMaCore.errors import OutputError
from DiffMaCore.progress import Reporter
from DiffMaCore.training import checkpoints
from DiffMaCore.training.batches import ShardedRNG
from DiffMaCore.training.checkpoints import Checkpoints
from DiffMaCore.training.run_folder import Board, MetricsLog, RunFolder, read_metrics
from DiffMaCore.training.trainer import make_accelerator, train
from Testing.training.trainer.tiny_run import Denoise, Slices, tiny_config

Usage = namedtuple("Usage", "total used free")


def run_here(folder, **config):
    run = RunFolder(folder, {"name": "tiny"}, ["diffma", "train", "--config", "/home/somebody/tiny.yaml", "--out=/a/b"])
    train(Denoise(Slices()), tiny_config(**config), run, 0, Reporter(), make_accelerator("cpu"))
    return run


def test_the_account_tells_what_was_run(tmp_path):
    account = run_here(tmp_path, steps=6).account()
    assert (account["status"], account["step"], account["seed"]) == ("finished", 6, 0)
    assert account["config"] == {"name": "tiny"}
    assert account["settings"]["data"] == "abc"
    (session,) = account["sessions"]
    assert session["versions"]["torch"] == torch.__version__.split("+")[0]
    assert session["machine"]["cores"] >= 1
    assert session["started"] <= session["ended"]
    assert session["train"]["steps"] == 6
    # a run folder may be handed on: nobody's folders are in it
    assert session["command"] == ["diffma", "train", "--config", "tiny.yaml", "--out=b"]
    assert "somebody" not in json.dumps(account)


def test_the_figures_of_every_step_are_in_the_table(tmp_path):
    run = run_here(tmp_path, steps=6)
    rows = read_metrics(run.metrics)
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert set(rows[0]) == {"step", "loss", "mse", "gradient_norm", "learning_rate", "samples_per_second"}
    assert [row["learning_rate"] for row in rows[:5]] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])


def test_the_learning_rate_warms_up_and_cools_down_to_nothing(tmp_path):
    config = tiny_config(steps=20, warmup=4, cooldown=0.5, learning_rate=1e-2, checkpoint_every=20)
    train(Denoise(Slices()), config, RunFolder(tmp_path), 0, Reporter(), make_accelerator("cpu"))
    rates = [row["learning_rate"] / 1e-2 for row in read_metrics(tmp_path / "metrics.csv")]
    assert rates[:10] == pytest.approx([0.25, 0.5, 0.75, *[1.0] * 7])
    assert rates[10:] == pytest.approx([(10 - k) / 10 for k in range(10)])


def test_samples_are_kept_along_the_way_and_at_the_end(tmp_path):
    run = run_here(tmp_path, steps=6, sample_every=4)
    assert sorted(p.name for p in run.samples.glob("step_*.png")) == ["step_00000004.png", "step_00000006.png"]
    assert Image.open(run.samples / "step_00000006.png").size == (8, 4)
    early, late = (np.load(run.samples / f"step_{step:08d}.npz")["generated"] for step in (4, 6))
    assert not np.array_equal(early, late)
    assert [row["step"] for row in read_metrics(run.samples / "figures.csv")] == [4, 6]


def test_the_averaged_weights_are_what_is_left(tmp_path):
    run = run_here(tmp_path, steps=6)
    kept = torch.load(tmp_path / "model" / "weights.pt", weights_only=True)
    (newest, *_) = run.checkpoints.newest_first()
    checkpoint = run.checkpoints.load(newest)
    assert all(torch.equal(kept[name], tensor) for name, tensor in checkpoint.below("ema").items())
    assert not torch.equal(kept["0.weight"], checkpoint.below("model")["0.weight"])
    assert checkpoint.facts["position"] == 6 * 8
    assert {"seed", "settings", "step"} <= checkpoint.facts.keys()


def test_two_checkpoints_stay(tmp_path):
    run = run_here(tmp_path, steps=9, checkpoint_every=2)
    assert [p.name for p in run.checkpoints.newest_first()] == [
        "step_00000009.safetensors",
        "step_00000008.safetensors",
    ]
    assert len(list(run.checkpoints.folder.iterdir())) == 2


def test_a_disk_too_full_for_the_checkpoints_is_told_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1 << 30, 1 << 30, 1000))
    with pytest.raises(OutputError, match="free some room or choose another folder with --out"):
        run_here(tmp_path, steps=6)
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.parametrize(
    "full", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("I/O error: No space left (os error 28)")]
)
def test_a_disk_that_fills_up_leaves_the_older_checkpoint_and_nothing_half_written(tmp_path, monkeypatch, full):
    folder = Checkpoints(tmp_path)
    kept = folder.save({"a": torch.ones(3)}, {"step": 1})

    def fill(tensors, path, metadata):
        path.write_bytes(b"half")
        raise full

    monkeypatch.setattr(checkpoints, "save_file", fill)
    with pytest.raises(OutputError, match="is full"):
        folder.save({"a": torch.ones(3)}, {"step": 2})
    assert list(tmp_path.iterdir()) == [kept]


def test_what_a_killed_run_was_writing_is_cleared_away_and_never_read(tmp_path):
    folder = Checkpoints(tmp_path)
    part = files._hidden(tmp_path / "step_00000009.safetensors", "part")
    part.with_name(part.name.replace(files._START, "0" * 8)).write_bytes(b"half")
    assert folder.newest_first() == []
    assert [folder.save({"a": torch.ones(3)}, {"step": 4})] == list(tmp_path.iterdir())


def test_room_is_asked_for_before_every_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1 << 30, 1 << 30, 1000))
    with pytest.raises(OutputError, match="the next checkpoint"):
        Checkpoints(tmp_path).save({"a": torch.ones(3)}, {"step": 1})


def test_a_table_goes_on_after_the_step_it_resumes_from_and_takes_new_columns(tmp_path):
    path = tmp_path / "metrics.csv"
    log = MetricsLog(path, 0, Board(tmp_path / "board", 0))
    for step in (1, 2, 3):
        log.add(step, {"loss": step / 10})
    with path.open("a") as file:
        file.write("4,0.")  # the process ended in the middle of a line
    log = MetricsLog(path, 2, Board(tmp_path / "board", 2))
    log.add(3, {"loss": 0.5, "bound": 1.5})
    assert read_metrics(path) == [
        {"step": 1, "loss": 0.1},
        {"step": 2, "loss": 0.2},
        {"step": 3, "loss": 0.5, "bound": 1.5},
    ]


def test_tensorboard_has_figures_and_samples_where_it_is_installed(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = run_here(tmp_path, steps=6, sample_every=3)
    board = events.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    losses = [row["loss"] for row in read_metrics(run.metrics)]
    assert [event.value for event in board.Scalars("loss")] == pytest.approx(losses)
    assert [event.step for event in board.Images("samples")] == [3, 6]


def test_averages_follow_fast_at_first_and_slowly_later(tmp_path):
    run = run_here(tmp_path, steps=3, checkpoint_every=1, ema=0.3)
    later = [run.checkpoints.load(path) for path in run.checkpoints.newest_first()][::-1]
    first = run_here(tmp_path / "first", steps=1, ema=0.3).checkpoints
    steps = [first.load(first.newest_first()[0]), *later]
    for before, after, decay in zip(steps, steps[1:], (3 / 12, 0.3), strict=False):
        for name, averaged in after.below("ema").items():
            followed = decay * before.below("ema")[name] + (1 - decay) * after.below("model")[name]
            torch.testing.assert_close(averaged, followed)


def test_random_numbers_depend_on_seed_step_name_and_row_alone():
    def rng(first, count, seed=0, step=5):
        return ShardedRNG(seed, step, first, count, 8, torch.device("cpu"))

    whole = rng(0, 8).normal("noise", 3)
    assert torch.equal(rng(6, 2).normal("noise", 3), whole[6:])
    assert torch.equal(rng(0, 8).normal("noise", 3), whole)
    others = [
        rng(0, 8).normal("other", 3),
        rng(0, 8, seed=1).normal("noise", 3),
        rng(0, 8, step=6).normal("noise", 3),
    ]
    assert not any(torch.equal(other, whole) for other in others)
    t = rng(0, 8).uniform("t")
    assert t.shape == (8,) and t.min() >= 0 and t.max() < 1
