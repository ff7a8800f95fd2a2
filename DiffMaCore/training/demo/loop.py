"""What all stages share: a stage's length and learning rate, atomic saving, and averaged weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from DiffMaCore.training.demo.progress import Progress
from DiffMaCore.training.files import replacing


@dataclass(frozen=True)
class LoopConfig:
    """Length and learning rate of a stage: ``steps``, or fewer where ``minutes`` are over before."""

    steps: int
    batch_size: int
    learning_rate: float
    minutes: float = math.inf
    warmup: int = 50  # steps
    final_rate: float = 0.05  # share of the learning rate left at the end of the cosine


class Loop:
    """Steps of one stage: sets the learning rate (warm-up, then cosine), steps the optimiser, logs progress."""

    def __init__(self, stage: str, config: LoopConfig, optimiser: torch.optim.Optimizer, done: int = 0) -> None:
        self.stage, self.config, self.optimiser = stage, config, optimiser
        self.step = done
        self._progress = Progress(stage, config.steps, done=done)
        self._spent = 0.0
        self._start = time.monotonic()

    @property
    def minutes(self) -> float:
        """Minutes this stage has trained, those before a resume included."""
        return self._spent + (time.monotonic() - self._start) / 60

    @property
    def fraction(self) -> float:
        """How much of the stage is over, 0 to 1, by steps or by time, whichever is further."""
        return min(1.0, max(self.step / self.config.steps, self.minutes / self.config.minutes))

    def __iter__(self) -> Iterator[int]:
        while self.fraction < 1.0:
            rate = self.config.learning_rate
            floor = self.config.final_rate
            scale = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * self.fraction))
            rate *= min(1.0, (self.step + 1) / max(self.config.warmup, 1)) * scale
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            yield self.step
            self.step += 1

    def update(self, loss: torch.Tensor, parameters: list[nn.Parameter], **values: float) -> None:
        """One optimiser step on a loss, with the gradient's norm clipped to 1."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        self.optimiser.step()
        self._progress.update(self.step + 1, loss=float(loss.detach()), share=self.fraction, **values)

    def state_dict(self) -> dict[str, float]:
        """Steps and minutes so far."""
        return {"step": self.step, "minutes": self.minutes}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.step, self._spent = int(state["step"]), float(state["minutes"])
        self._start = time.monotonic()
        self._progress = Progress(self.stage, self.config.steps, done=self.step)


class Ema:
    """Averaged weights: decay rises with the steps from fast to ``decay``, so that short runs average too."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Fold the model's present weights in."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for key, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.shadow[key].lerp_(value, 1 - decay)
            else:
                self.shadow[key].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Shadow weights and the number of updates."""
        return {"shadow": self.shadow, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.shadow, self.updates = state["shadow"], state["updates"]


def save_atomically(value: dict[str, Any], path: Path) -> None:
    """``torch.save`` that leaves either the old file or the new one."""
    with replacing(path) as part:
        torch.save(value, part)
