"""How a run goes on: what a checkpoint holds of it, and whether a checkpoint is of the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from DiffMaCore.errors import InputError
from DiffMaCore.progress import Reporter
from DiffMaCore.training.checkpoints import Checkpoint, Checkpoints
from DiffMaCore.training.experiment import TrainConfig

_FREE = ("steps", "micro_batch", "log_every", "sample_every", "checkpoint_every", "workers")
"""Of TrainConfig: what may change within a run, since no step's result depends on it."""


def deciding(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide what every step does."""
    return {name: value for name, value in asdict(config).items() if name not in _FREE}


def newest(checkpoints: Checkpoints, settings: Mapping[str, Any], reporter: Reporter) -> Checkpoint | None:
    """The newest checkpoint that can be read, None where there is none; a damaged one is told of.

    Raises InputError naming the first setting that is not as it was.
    """
    for path in checkpoints.newest_first():
        try:
            found = checkpoints.load(path)
        except ValueError as reason:
            reporter.warning(f"the checkpoint {path.name} is damaged ({reason}); the one before it is used")
            continue
        change = _difference(found.facts["settings"], settings)
        if change is not None:
            name, before, now = change
            raise InputError(
                f"the run in {checkpoints.folder.parent} was begun with {name} = {before!r} and now it is {now!r};"
                " set it back, or train under another --out"
            )
        return found
    return None


def state(
    model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Everything that the steps have changed, and torch's generator."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in average.state_dict().items()}
    for name, parameter in parameters.items():
        for key, value in optimiser.state[parameter].items():
            tensors[f"optimiser.{key}.{name}"] = torch.as_tensor(value)
    return {**tensors, "torch_generator": torch.get_rng_state()}


def restore(
    found: Checkpoint,
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
) -> None:
    """Inverse of :func:`state`."""
    model.load_state_dict(found.below("model"))
    average.load_state_dict(found.below("ema"))
    moments: dict[str, dict[str, Tensor]] = {name: {} for name in parameters}
    for word, value in found.below("optimiser").items():
        key, _, name = word.partition(".")
        moments[name][key] = value
    held = optimiser.state_dict()
    # a parameter that has never had a gradient has no moments
    held["state"] = {place: kept for place, kept in enumerate(moments.values()) if kept}
    optimiser.load_state_dict(held)
    torch.set_rng_state(found.tensors["torch_generator"])


def _difference(before: Any, now: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that differs: its dotted name, what it was and what it is."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*now, *before]):
            found = _difference(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
            if found is not None:
                return found
        return None
    return None if _plain(before) == _plain(now) else (name, before, now)


def _plain(value: Any) -> Any:
    """As it comes back from JSON, where a tuple is a list."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
