"""The two ways in which a model is asked for an image, and which of them it was trained for.

"mean" is the expected image, the most faithful one: one evaluation a slice, no noise. "sample" is one of the images
that the MRI might be: noise, and many steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEAN, SAMPLE = "mean", "sample"
MODES = (MEAN, SAMPLE)
AUTO = "auto"
"""The model's own choice."""


def modes_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What an installed model was trained for, its own choice first; one that says nothing samples."""
    return tuple(mode for mode in entry.get("modes") or () if mode in MODES) or (SAMPLE,)


def choose_mode(machine: Mapping[str, Any] | None, model: str, wish: str | None = None) -> str | None:
    """The mode in which a model converts.

    Args:
        machine: the child's facts; None while they are not there.
        model: its name.
        wish: "mean", "sample", or None or "auto" for the model's own choice.

    Returns:
        The wish where the model was trained for it, otherwise the model's own choice. Of a model that is not known the
        wish; None leaves it to the child.
    """
    entry = _entry(machine, model)
    if not entry:
        return wish if wish in MODES else None
    modes = modes_of(entry)
    return wish if wish in modes else modes[0]


def tells_uncertainty(machine: Mapping[str, Any] | None, model: str, mode: str | None, decoder: str | None) -> bool:
    """Whether a model tells the uncertainty of its expected image by itself, in the same step."""
    return mode == MEAN and decoder in (None, "guided") and bool(_entry(machine, model).get("expects_error"))


def _entry(machine: Mapping[str, Any] | None, model: str) -> Mapping[str, Any]:
    """What the child says of a model; empty while nothing is known of it."""
    none: Mapping[str, Any] = {}
    return next((entry for entry in (machine or {}).get("models", ()) if entry["name"] == model), none)


def draws_noise(mode: str | None, samples: int) -> bool:
    """Whether steps, scheduler and seed matter: in mean mode only where samples are drawn for the uncertainty."""
    return mode != MEAN or samples > 1


def evaluations(mode: str | None, steps: int, samples: int) -> int:
    """Evaluations of the network that a slice takes."""
    return (steps * samples if draws_noise(mode, samples) else 0) + (mode == MEAN)
