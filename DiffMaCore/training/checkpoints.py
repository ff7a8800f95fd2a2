"""Checkpoints: one safetensors file each, whole or not there, with everything a run needs to go on.

``step_00001000.safetensors`` holds the tensors; its header holds a JSON object of facts under "diffma" and a
checksum, so that a file which was damaged on the disk is noticed before it is used.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from DiffMaCore.configuring import first_change
from DiffMaCore.errors import InputError
from DiffMaCore.files import clear_left, replacing, require_room
from DiffMaCore.progress import Reporter

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """One file's content: tensors on the CPU by name, and plain facts (step, seed, position, settings)."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix`` and a dot, by the rest of their names."""
        return {name[len(prefix) + 1 :]: t for name, t in self.tensors.items() if name.startswith(prefix + ".")}


class Checkpoints:
    """A folder of checkpoints, of which the newest ``KEPT`` stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest_first(self) -> list[Path]:
        """What is there; a file that was still being written does not count."""
        return sorted(self.folder.glob("step_*.safetensors"), reverse=True)

    def newest(self, settings: Mapping[str, Any], reporter: Reporter) -> Checkpoint | None:
        """The newest one that can be read, None where there is none; a damaged one is reported.

        Raises InputError naming the first of the run's settings that is not as it was.
        """
        for path in self.newest_first():
            try:
                found = self.load(path)
            except ValueError as reason:
                reporter.warning(f"the checkpoint {path.name} is damaged ({reason}); the one before it is used")
                continue
            if change := first_change(found.facts["settings"], settings):
                name, before, now = change
                raise InputError(
                    f"the run in {self.folder.parent} was begun with {name} = {before!r} and now it is {now!r};"
                    " set it back, or train under another --out"
                )
            return found
        return None

    def require_room(self, size: int) -> None:
        """Raise OutputError unless the checkpoints of a whole run, ``size`` bytes each, have room."""
        there = sum(path.stat().st_size for path in self.newest_first())
        # while a new one is written the old ones are still there
        require_room(self.folder, max((KEPT + 1) * size - there, size), "the checkpoints of this run", " with --out")

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Write the checkpoint of ``facts["step"]`` and let the oldest go. Raises OutputError when the disk is full."""
        clear_left(self.folder)  # a run that was killed must not take the room
        stored = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
        require_room(self.folder, sum(t.nbytes for t in stored.values()), "the next checkpoint", " with --out")
        path = self.folder / f"step_{facts['step']:08d}.safetensors"
        with replacing(path) as part:
            save_file(stored, part, metadata={"diffma": json.dumps(facts), "checksum": _checksum(stored)})
        for old in self.newest_first()[KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def load(self, path: Path) -> Checkpoint:
        """Read a checkpoint whole. Raises ValueError with the reason when it is damaged."""
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
            facts = json.loads(header["diffma"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if _checksum(tensors) != header.get("checksum"):
            raise ValueError("its content is not what was written")
        return Checkpoint(tensors, facts)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        if tensors[name].numel():
            value = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


Parameters = Mapping[str, nn.Parameter]


def state(
    model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, parameters: Parameters
) -> dict[str, Tensor]:
    """Everything that the steps have changed, and torch's generator."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in average.state_dict().items()}
    for name, parameter in parameters.items():
        for key, value in optimiser.state[parameter].items():
            tensors[f"optimiser.{key}.{name}"] = torch.as_tensor(value)
    return {**tensors, "torch_generator": torch.get_rng_state()}


def restore(
    found: Checkpoint, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, parameters: Parameters
) -> None:
    """Inverse of :func:`state`."""
    model.load_state_dict(found.below("model"))
    average.load_state_dict(found.below("ema"))
    moments: dict[str, dict[str, Tensor]] = {name: {} for name in parameters}
    for word, value in found.below("optimiser").items():
        key, _, name = word.partition(".")
        like = parameters[name]
        # fused AdamW walks through memory: a channels-last weight's moments must lie as it does
        moments[name][key] = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
    stored = optimiser.state_dict()
    # a parameter that has never had a gradient has no moments
    stored["state"] = {place: kept for place, kept in enumerate(moments.values()) if kept}
    optimiser.load_state_dict(stored)
    torch.set_rng_state(found.tensors["torch_generator"])
