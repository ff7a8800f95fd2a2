"""The slices of a volume batch by batch: while one is decoded and its slices are finished, the next is denoised."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from DiffMaCore.diffusion.pipeline import noise_seed
from DiffMaCore.diffusion.streams import AsyncDecoder
from DiffMaCore.errors import is_out_of_memory
from DiffMaCore.inference.options import Sampling
from DiffMaCore.progress import Reporter

if TYPE_CHECKING:
    from DiffMaCore.diffusion.conditions import Conditions
    from DiffMaCore.diffusion.pipeline import SlicePipeline


class MadeSlices(NamedTuple):
    """The image, its uncertainty, in output units, and soft masks, each (B, S, S)."""

    image: np.ndarray
    uncertainty: np.ndarray
    soft_masks: np.ndarray


class BatchRun:
    """One pass over a volume's batches: ``read`` gives the source slices (B, S, S) of indices, ``finish`` gets what was
    made of them, one batch after the other, where the bundle overlaps in another thread.

    ``report_lock`` is held while the reporter is called.
    """

    def __init__(
        self,
        pipe: SlicePipeline,
        sampling: Sampling,
        read: Callable[[list[int]], torch.Tensor],
        finish: Callable[[list[int], MadeSlices], None],
        reporter: Reporter,
        report_lock: threading.Lock,
    ) -> None:
        self._pipe, self._sampling, self._read, self._finish = pipe, sampling, read, finish
        self._reporter, self._report_lock = reporter, report_lock
        self._finished = 0
        self._finishing = False

    def run(self, batches: list[list[int]]) -> int | None:
        """Make all slices; the size of batches it came down to where the memory was not enough, else None."""
        work = self._sampling.evaluations
        size = None
        self._reporter.stage("synthesising", total=len(batches) * work)
        with AsyncDecoder(self._pipe.device, self._pipe.overlap) as decoder:
            while self._runs_out_of_memory(batches, decoder):
                self._pipe.release_memory()
                made, left = batches[: self._finished], batches[self._finished :]
                size = len(left[0]) // 2
                batches = made + [part[i : i + size] for part in left for i in range(0, len(part), size)]
                self._reporter.warning(
                    f"the memory was not enough for {len(left[0])} slices at once; going on with {size}"
                )
                self._reporter.stage("synthesising", total=len(batches) * work, done=len(made) * work)
        return size

    def _runs_out_of_memory(self, batches: list[list[int]], decoder: AsyncDecoder) -> bool:
        """Make what is left; whether it ended because a batch of more than one slice was too large."""
        try:
            for indices in batches[self._finished :]:
                self._start(indices, decoder)
            decoder.wait()
            return False
        except (RuntimeError, MemoryError) as error:
            decoder.settle()  # the batch before may be finished still
            if self._finishing or not is_out_of_memory(error) or len(batches[self._finished]) == 1:
                raise
        return True  # only now: the error held on to the tensors

    def _start(self, indices: list[int], decoder: AsyncDecoder) -> None:
        pipe, sampling = self._pipe, self._sampling
        slices = self._read(indices)
        if pipe.will_capture(len(indices)):
            decoder.wait()
        conditions = pipe.conditions(slices)
        made = _Made(indices, conditions, pending=sampling.images)
        if sampling.mode == "mean":
            expected = pipe.expected(slices, conditions, self._reporter.warning)
            self._advance(indices[-1])
            decoder.start(partial(self._decode_expected, expected, made))
        for k in range(sampling.draws):
            latents = pipe.denoise(
                conditions,
                sampling.steps,
                sampling.scheduler,
                noise_seed(sampling.seed, k),
                on_step=partial(self._advance, indices[-1]),
                warn=self._reporter.warning,
            )
            decoder.start(partial(self._decode_sample, latents, made))

    def _advance(self, index: int) -> None:
        with self._report_lock:
            self._reporter.advance(index)

    def _decode_expected(self, expected: list[tuple[torch.Tensor, torch.Tensor | None]], made: _Made) -> None:
        with_error = self._sampling.uncertainty_of == "decoder"
        made.expected, made.error = self._pipe.decode_expected(expected, self._sampling.decoder, with_error)
        self._one_more(made)

    def _decode_sample(self, latents: torch.Tensor, made: _Made) -> None:
        made.samples.add(self._pipe.decode(latents, self._sampling.decoder, made.conditions.ct_pixels))
        self._one_more(made)

    def _one_more(self, made: _Made) -> None:
        """Finish a batch whose last image this was."""
        pipe = self._pipe
        made.pending -= 1
        if made.pending:
            return
        shown = made.samples.mean if made.expected is None else made.expected
        sampled = made.samples.deviation * pipe.bundle.uncertainty_scale
        uncertainty = sampled if made.error is None else made.error
        masks = _mask_slices(made.conditions, pipe.bundle.image_size)
        self._finishing = True  # from here on the batch's size does not matter
        self._finish(made.indices, MadeSlices(shown.numpy(), uncertainty.numpy(), masks))
        self._finishing = False
        self._finished += 1


class _Made:
    """What has been made of a batch so far; ``pending`` images are still to come."""

    def __init__(self, indices: list[int], conditions: Conditions, pending: int) -> None:
        self.indices, self.conditions, self.pending = indices, conditions, pending
        self.expected: torch.Tensor | None = None
        self.error: torch.Tensor | None = None  # that is expected of it
        self.samples = _Moments()


class _Moments:
    """Mean and standard deviation of samples, by Welford's update."""

    def __init__(self) -> None:
        self._count = 0
        self.mean, self._squares = torch.zeros(()), torch.zeros(())

    def add(self, value: torch.Tensor) -> None:
        self._count += 1
        delta = value - self.mean
        self.mean = self.mean + delta / self._count
        self._squares = self._squares + delta * (value - self.mean)

    @property
    def deviation(self) -> torch.Tensor:
        return (self._squares / max(1, self._count - 1)).sqrt()


def _mask_slices(conditions: Conditions, size: int) -> np.ndarray:
    """Soft masks (B, L, 1) as slices (B, size, size), each token a square."""
    tokens = conditions.soft_mask.float().cpu()[..., 0]
    side = round(tokens.shape[1] ** 0.5)
    return F.interpolate(tokens.view(-1, 1, side, side), (size, size), mode="nearest")[:, 0].numpy()
