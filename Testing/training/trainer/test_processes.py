"""A batch spread over processes and micro batches trains as the same batch at once."""

from __future__ import annotations

import pytest

from DiffMaCore.errors import InputError
from DiffMaCore.progress import Reporter
from DiffMaCore.training.batches import Order, Spread, micro_batches, spread_batch
from DiffMaCore.training.experiment import TrainConfig
from DiffMaCore.training.run_folder import RunFolder
from DiffMaCore.training.trainer import make_accelerator, train
from Testing.training.trainer.conftest import free_port
from Testing.training.trainer.tiny_run import Contrast, Denoise, Slices, losses, tiny_config


@pytest.fixture(scope="module")
def from_two(tmp_path_factory, start):
    """What two processes left behind; in contrast/ the training over whole batches."""
    folder, port = tmp_path_factory.mktemp("two") / "run", free_port()
    for child in [start(folder, port=port, rank=rank, both=True, micro_batch=2) for rank in range(2)]:
        child.join(200)
        assert child.exitcode == 0, folder.with_suffix(".err").read_text()
    return folder


def test_two_processes_with_micro_batches_have_the_losses_of_one(tmp_path, from_two):
    train(Denoise(Slices()), tiny_config(), RunFolder(tmp_path), 0, Reporter(), make_accelerator("cpu"))
    assert losses(from_two) == pytest.approx(losses(tmp_path), rel=1e-4)
    (session,) = RunFolder(from_two).account()["sessions"]
    assert (session["processes"], session["micro_batch"], session["accumulation"]) == (2, 2, 2)


def test_a_contrast_over_the_whole_batch_is_the_same_from_two_processes(tmp_path, from_two):
    train(Contrast(Slices()), tiny_config(), RunFolder(tmp_path), 0, Reporter(), make_accelerator("cpu"))
    assert losses(from_two / "contrast") == pytest.approx(losses(tmp_path), rel=1e-4)
    (session,) = RunFolder(from_two / "contrast").account()["sessions"]
    assert (session["processes"], session["micro_batch"]) == (2, 4)


def test_a_batch_is_spread_evenly():
    assert spread_batch(TrainConfig(batch_size=64), 4) == Spread(16, 4, 1)
    assert spread_batch(TrainConfig(batch_size=64, micro_batch=4), 4) == Spread(4, 4, 4)


@pytest.mark.parametrize(
    ("config", "processes", "whole", "message"),
    [
        ({"batch_size": 64}, 3, False, "63 or 66 would fit"),
        ({"batch_size": 2}, 3, False, "3 would fit"),
        ({"batch_size": 64, "micro_batch": 12}, 2, False, "48 or 72 would fit"),
        ({"batch_size": 64, "micro_batch": 0}, 1, False, "micro_batch of 0"),
        ({"batch_size": 64, "micro_batch": 16}, 1, True, "contrasts all 64 slices"),
    ],
)
def test_a_batch_that_cannot_be_spread_names_those_that_can(config, processes, whole, message):
    with pytest.raises(InputError, match=message):
        spread_batch(TrainConfig(**config), processes, whole)


@pytest.mark.parametrize("spread", [Spread(8, 1, 1), Spread(2, 4, 1), Spread(1, 2, 4), Spread(2, 1, 4)])
def test_the_parts_of_all_processes_are_the_batch(spread):
    order = Order(40, 8, seed=1)
    rows: list[list[int]] = [[], []]
    for process in range(spread.processes):
        parts = list(micro_batches(order, spread, process, first_step=3, steps=5))
        for step in range(2):
            rows[step] += [r for part in parts[step * spread.accumulation :][: spread.accumulation] for r in part]
    assert [sorted(r) for r in rows] == [sorted(order.batch(3)), sorted(order.batch(4))]


def test_every_epoch_holds_each_slice_at_most_once_in_another_order():
    order = Order(43, 8, seed=0)
    epochs = [[row for step in range(first, first + 5) for row in order.batch(step)] for first in (0, 5)]
    assert all(len(set(epoch)) == 40 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert Order(43, 8, seed=0).batch(7) == order.batch(7)
    assert Order(43, 8, seed=1).batch(7) != order.batch(7)


def test_fewer_slices_than_a_batch_are_gone_through_in_turn():
    order = Order(3, 8, seed=0)
    rows = [row for step in range(3) for row in order.batch(step)]
    assert all(sorted(rows[place : place + 3]) == [0, 1, 2] for place in range(0, 24, 3))


def test_a_contrast_needs_as_many_slices_as_its_batch(tmp_path):
    config = tiny_config(batch_size=64)
    with pytest.raises(InputError, match="set batch_size to 40 or less"):
        train(Contrast(Slices()), config, RunFolder(tmp_path), 0, Reporter(), make_accelerator("cpu"))
