"""A step whose loss or gradient is not finite: which slices it was made of, and what is wrong as far as one can see."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from DiffMaCore.training.task import Rows

_NAMED = 6


def describe_nonfinite(
    rows: Rows, batch: Sequence[int], step: int, loss: float, gradient: float, parameters: Mapping[str, nn.Parameter]
) -> tuple[str, dict[str, Any]]:
    """One sentence for the user, and the same in full for run.json.

    Args:
        rows: the data set, of which ``batch`` are the rows of the step's whole batch.
        step: steps done before this one.
        loss, gradient: the loss, and the norm of the gradient.
        parameters: with the gradients of this step.
    """
    bad = [(name, row) for row in batch for name in _not_finite(rows[row])]
    facts: dict[str, Any] = {"step": step + 1, "loss": str(loss), "gradient_norm": str(gradient)}
    facts |= {"batch": [rows.where(row) for row in batch]}
    if bad:
        facts["not_finite"] = [f"{name} of {rows.where(row)}" for name, row in bad]
        message = (
            f"step {step + 1} was not made: {_some(facts['not_finite'])} is not finite; mend that case or leave it out"
            " and run `diffma prepare` again"
        )
        return message, facts
    what = f"the loss is {loss}"
    if math.isfinite(loss):
        broken = [name for name, p in parameters.items() if p.grad is not None and not p.grad.isfinite().all()]
        facts["gradients"] = broken
        what = f"the gradient is not finite, first in {broken[0]}" if broken else "the gradient's norm is not finite"
    message = (
        f"step {step + 1} was not made: {what}, though all data of its batch is finite ({_some(facts['batch'])});"
        " train under another --out with a lower learning_rate or precision: fp32"
    )
    return message, facts


def _not_finite(item: Mapping[str, Any]) -> list[str]:
    tensors = {name: torch.as_tensor(value) for name, value in item.items() if isinstance(value, Tensor | float)}
    return [name for name, value in tensors.items() if not value.isfinite().all()]


def _some(words: list[str]) -> str:
    more = len(words) - _NAMED
    return "; ".join(words[:_NAMED]) + (f"; and {more} more, which run.json names" if more > 0 else "")
