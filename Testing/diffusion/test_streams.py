"""Work beside the denoising: in order, complete, and its errors heard; the same code runs on a GPU with streams."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from DiffMaCore import DiffMaPipeline
from DiffMaCore.diffusion.streams import AsyncDecoder, Pace
from DiffMaCore.errors import ModelError
from DiffMaCore.progress import Reporter
from Testing.images import head_like_ct

CPU = torch.device("cpu")


class Recorder(Reporter):
    """What is told, in order, and by which threads."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []
        self.threads: set[int] = set()

    def advance(self, slice_index: int | None = None) -> None:
        super().advance(slice_index)
        self.events.append("step")

    def slice_done(self, index: int, axis: int, values: np.ndarray, picture: np.ndarray) -> None:
        self.events.append((index, values.copy(), picture.copy()))
        self.threads.add(threading.get_ident())

    @property
    def made(self) -> list[Any]:
        return [event for event in self.events if event != "step"]


@pytest.fixture
def pipe(tiny_bundle: Path) -> DiffMaPipeline:
    return DiffMaPipeline.from_pretrained(tiny_bundle)


def test_tasks_run_one_after_the_other_beside_their_owner() -> None:
    done: list[tuple[str, int]] = []
    gate = threading.Event()
    with AsyncDecoder(CPU, apart=True) as decoder:

        def first() -> None:
            gate.wait(10)
            done.append(("first", threading.get_ident()))

        decoder.start(first)
        assert not done  # it waits, and its owner goes on
        gate.set()
        decoder.start(lambda: done.append(("second", threading.get_ident())))
        assert [name for name, _ in done][:1] == ["first"]
    assert [name for name, _ in done] == ["first", "second"]
    assert {thread for _, thread in done}.isdisjoint({threading.get_ident()})


def test_nothing_runs_beside_where_it_is_not_wanted() -> None:
    threads: list[int] = []
    with AsyncDecoder(CPU, apart=False) as decoder:
        decoder.start(lambda: threads.append(threading.get_ident()))
        assert threads == [threading.get_ident()]


@pytest.mark.parametrize("apart", [True, False])
def test_an_error_is_raised_to_the_owner_and_nothing_starts_after_it(apart: bool) -> None:
    started: list[str] = []

    def fail() -> None:
        raise RuntimeError("broken")

    with AsyncDecoder(CPU, apart) as decoder:
        with pytest.raises(RuntimeError, match="broken"):
            decoder.start(fail)
            decoder.start(lambda: started.append("next"))
        assert not started
        decoder.wait()  # told once
        decoder.start(lambda: started.append("later"))
    assert started == ["later"]


def test_a_lack_of_memory_can_be_settled_and_other_errors_cannot() -> None:
    def fail(words: str) -> None:
        raise RuntimeError(words)

    with AsyncDecoder(CPU, apart=True) as decoder:
        decoder.start(lambda: fail("CUDA out of memory"))
        decoder.settle()
        decoder.start(lambda: fail("shapes do not match"))
        with pytest.raises(RuntimeError, match="shapes"):
            decoder.settle()


@pytest.mark.parametrize("samples", [1, 2])
def test_what_is_decoded_beside_the_next_batch_is_the_same_bit_for_bit_and_in_the_same_order(
    pipe: DiffMaPipeline, samples: int
) -> None:
    found = []
    for overlap in (False, True):
        pipe.overlap = overlap
        recorder = Recorder()
        out = pipe(head_like_ct(), num_inference_steps=3, samples=samples, batch_size=2, reporter=recorder)
        found.append((out, recorder))
    (plain, told), (beside, told_beside) = found
    for name in ("mr", "soft_mask", *(["uncertainty"] if samples > 1 else [])):
        assert np.array_equal(*(sitk.GetArrayFromImage(getattr(out, name)) for out in (plain, beside)))
    assert [event[0] for event in told.made] == [event[0] for event in told_beside.made] == list(plain.slices)
    for one, other in zip(told.made, told_beside.made, strict=True):
        assert np.array_equal(one[1], other[1]) and np.array_equal(one[2], other[2])
    assert told_beside.done == told_beside.total == told.done
    assert told.threads == {threading.get_ident()}
    assert threading.get_ident() not in told_beside.threads


def test_without_overlap_a_batchs_slices_come_before_the_next_batchs_steps(pipe: DiffMaPipeline) -> None:
    recorder = Recorder()
    pipe(head_like_ct(), num_inference_steps=2, batch_size=3, reporter=recorder)
    kinds = ["step" if event == "step" else "slice" for event in recorder.events]
    assert kinds == (["step"] * 2 + ["slice"] * 3) * 2


@pytest.mark.parametrize("overlap", [False, True])
def test_numbers_that_are_not_finite_are_a_models_error(pipe: DiffMaPipeline, overlap: bool) -> None:
    pipe.overlap = overlap
    pipe.denoiser.final.linear.bias.data.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        pipe(head_like_ct(), num_inference_steps=1, batch_size=2)


@pytest.mark.parametrize("overlap", [False, True])
def test_an_error_while_slices_are_finished_ends_the_run_and_makes_no_slice_twice(
    pipe: DiffMaPipeline, overlap: bool
) -> None:
    class Full(Recorder):
        def slice_done(self, *args: Any) -> None:
            super().slice_done(*args)
            if len(self.made) == 3:
                raise MemoryError("no room for a picture")

    pipe.overlap = overlap
    recorder = Full()
    with pytest.raises(MemoryError):
        pipe(head_like_ct(), num_inference_steps=1, batch_size=2, reporter=recorder)
    assert len(recorder.made) == 3


def test_on_a_cpu_a_step_is_told_at_once() -> None:
    told: list[int] = []
    pace = Pace(CPU, lambda: told.append(1))
    pace.step()
    assert told == [1]
    pace.finish()
    assert told == [1]
