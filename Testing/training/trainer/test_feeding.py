"""Batches as training gets them: in the order that is due, whoever reads them, and the same to the last bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from DiffMaCore.training.batches import Order, feed, micro_batches, spread_batch, to_device
from Testing.training.trainer.tiny_run import Slices, tiny_config

CPU = torch.device("cpu")


def parts(first_step: int = 0) -> Iterator[list[int]]:
    config = tiny_config()
    return micro_batches(Order(40, config.batch_size, 0), spread_batch(config, 1), 0, first_step, 9)


class Uneven(Slices):
    """A batch that takes the longer the sooner it is due."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[str] = set()
        self._pauses = iter((0.05, 0.03, 0.01))

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        self.readers.add(threading.current_thread().name)
        threading.Event().wait(next(self._pauses, 0))
        return super().batch(rows)


@pytest.mark.parametrize("workers", [None, 0, 1, 3])
def test_batches_come_in_their_order_whoever_reads_them(workers: int | None) -> None:
    rows = Uneven()
    found = [batch["row"].tolist() for batch in feed(rows, parts(), CPU, workers)]
    assert found == list(parts()) and len(found) == 9
    assert any(name.startswith("reads-ahead") for name in rows.readers) == bool(workers)


def test_a_run_that_goes_on_is_fed_what_was_still_due() -> None:
    whole = [batch["target_latent"] for batch in feed(Slices(), parts(), CPU, 2)]
    rest = [batch["target_latent"] for batch in feed(Slices(), parts(first_step=4), CPU, 2)]
    assert all(torch.equal(one, other) for one, other in zip(whole[4:], rest, strict=True))


class Broken(Slices):
    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        raise OSError("the disk is gone")


def test_what_breaks_while_reading_ahead_reaches_the_training_and_no_thread_stays() -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        next(feed(Broken(), parts(), CPU, 2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reads-ahead")]


def test_a_training_that_ends_early_leaves_no_thread() -> None:
    found = feed(Slices(), parts(), CPU, 2)
    next(found)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("reads-ahead")]
    found.close()  # type: ignore[attr-defined]  # it is a generator
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reads-ahead")]


def test_halves_arrive_as_float32_and_whole_numbers_as_they_are() -> None:
    halves = torch.randn(3, 4).half()
    moved = to_device({"latent": halves, "row": torch.tensor([1, 2, 3])}, CPU)
    assert moved["latent"].dtype == torch.float32 and torch.equal(moved["latent"], halves.float())
    assert moved["row"].dtype == torch.int64
