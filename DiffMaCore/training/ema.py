"""Averaged weights: what a run samples with and what it leaves behind."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """A copy of a model, in eval mode and without gradients, whose weights follow the model's slowly.

    The decay rises with the steps, min(decay, (1 + n) / (10 + n)), so that a short run averages as well.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, updates: int) -> None:
        """Fold ``model`` in; ``updates`` were done before, this one included."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        own, theirs = self.model.state_dict(), model.state_dict()
        averaged = [name for name, value in own.items() if value.is_floating_point()]
        torch._foreach_lerp_([own[name] for name in averaged], [theirs[name] for name in averaged], 1 - decay)
        for name in own.keys() - set(averaged):
            own[name].copy_(theirs[name])
