"""What one part of a step's batch may draw on: random numbers of its own rows, and the other processes' rows.

Every random number is a function of (seed, step, name, global row) alone. A run that goes on from step n needs no
stored generator, and two processes see what one would have seen.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F


def stream(*words: object) -> torch.Generator:
    """A CPU generator that depends on ``words`` alone, such as a seed, a step and a name."""
    digest = hashlib.sha256(repr(words).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@dataclass(frozen=True)
class ShardedRNG:
    """Rows ``first`` to ``first + count`` of the ``total`` rows of a step's batch."""

    seed: int
    step: int
    first: int
    count: int
    total: int
    device: torch.device

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers (count, *shape); another ``name`` gives other numbers."""
        return self._part(torch.randn(self.total, *shape, generator=self._stream(name)))

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Numbers from 0 to below 1 (count, *shape)."""
        return self._part(torch.rand(self.total, *shape, generator=self._stream(name)))

    def integers(self, name: str, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from ``low`` to below ``high`` (count, *shape)."""
        return self._part(torch.randint(low, high, (self.total, *shape), generator=self._stream(name)))

    def gather(self, part: Tensor) -> Tensor:
        """The whole batch (total, ...) out of every process's ``part`` (count, ...), in order; gradients flow back.

        For a loss over the whole batch, such as InfoNCE's; its task sets ``whole_batch``. Every process then
        computes the same loss, and the average of their gradients is the gradient of that loss.
        """
        if self.count == self.total:
            return part
        after = self.total - self.first - self.count
        padded = F.pad(part, (0, 0) * (part.dim() - 1) + (self.first, after))
        return cast(Tensor, _Sum.apply(padded))

    def _stream(self, name: str) -> torch.Generator:
        return stream(self.seed, self.step, name)

    def _part(self, whole: Tensor) -> Tensor:
        return whole[self.first : self.first + self.count].to(self.device, non_blocking=True)


class _Sum(torch.autograd.Function):
    """The sum over all processes, and of the gradients over all processes."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        whole = part.clone()
        torch.distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient.contiguous())
