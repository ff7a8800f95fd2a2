"""What runs took on this machine, and what the next one will take: times, memory, and nothing about patients."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from DiffMaSlicerLib.jobs.modes import AUTO, draws_noise, evaluations
from DiffMaSlicerLib.jobs.rough import Rough

_KEPT = 8  # runs remembered for each model and device
_BYTES_PER_VOXEL = 24  # CT, body, MR, soft mask and what is written, all of the whole volume


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        seconds: None before the first run on this machine.
        memory_bytes: of the child at its peak; None likewise.
        runs: how many runs this is learnt from.
        free_bytes: free memory of the device when it was last asked; None where it was not.
        sentence: all that in words.
    """

    seconds: float | None
    memory_bytes: int | None
    runs: int
    free_bytes: int | None
    sentence: str

    @property
    def enough_memory(self) -> bool | None:
        """Whether the memory is enough; None where that is not known."""
        if self.memory_bytes is None or self.free_bytes is None:
            return None
        return self.memory_bytes <= self.free_bytes


class History:
    """Measured runs in a JSON file; a file that is missing, damaged or cannot be written does no harm."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(
        self,
        model: str,
        device: str,
        decoder: str | None = None,
        *,
        noise: bool = True,
        setup: float,
        synthesis: float,
        work: int,
        voxels: int,
        peak_bytes: int | None,
    ) -> None:
        """Remember a run.

        Args:
            model: its name.
            device: kind and number, such as "cpu" or "cuda:0".
            decoder: what was asked for; None is the model's own.
            noise: whether samples were drawn. Without, a slice is one evaluation and one decoding, which takes longer
                than an evaluation, so these runs are kept apart.
            setup: seconds for loading, preparing and writing.
            synthesis: seconds for ``work`` = slices x evaluations.
            voxels: of the CT.
            peak_bytes: of the child's memory.
        """
        if work <= 0 or setup < 0 or synthesis <= 0:
            return
        runs = self._read()
        entry = {
            "setup": round(setup, 3),
            "per_step": synthesis / work,
            "voxels": voxels,
            "peak_bytes": peak_bytes,
        }
        key = _key(model, device, decoder, noise)
        runs[key] = [*runs.get(key, []), entry][-_KEPT:]
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(runs, indent=1), encoding="utf-8")
            part.replace(self._path)

    def estimate(
        self,
        model: str,
        device: str,
        decoder: str | None = None,
        *,
        mode: str | None = None,
        steps: int,
        samples: int,
        slices: int,
        voxels: int,
        free_bytes: int | None,
        rough: Rough | None = None,
    ) -> Estimate:
        """What ``slices`` of a CT of so many ``voxels`` will take: by the medians of earlier runs, else ``rough``."""
        runs = self._read().get(_key(model, device, decoder, draws_noise(mode, samples)), [])
        if not runs:
            if rough is None:
                sentence = _("How long it takes is learnt from the first run on this device.")
                return Estimate(None, None, 0, free_bytes, sentence)
            seconds = rough.begin + slices * (rough.of_slice + rough.of_evaluation * evaluations(mode, steps, samples))
            guessed = rough.memory_bytes + _BYTES_PER_VOXEL * voxels
            return Estimate(seconds, guessed, 0, free_bytes, _sentence(seconds, guessed, free_bytes, 0))
        seconds = statistics.median([run["setup"] for run in runs])
        seconds += statistics.median([run["per_step"] for run in runs]) * evaluations(mode, steps, samples) * slices
        peaks = [
            run["peak_bytes"] + _BYTES_PER_VOXEL * max(0, voxels - run["voxels"]) for run in runs if run["peak_bytes"]
        ]
        memory = int(max(peaks)) if peaks else None
        return Estimate(seconds, memory, len(runs), free_bytes, _sentence(seconds, memory, free_bytes, len(runs)))

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(content, dict):
            return {}
        return {key: [run for run in runs if _sound(run)] for key, runs in content.items() if isinstance(runs, list)}


def _key(model: str, device: str, decoder: str | None, noise: bool) -> str:
    return f"{model}|{device}" + ("" if decoder in (None, AUTO) else f"|{decoder}") + ("" if noise else "|one step")


def words_for_seconds(seconds: float) -> str:
    """Such as "40 s", "3 min" or "2 h 5 min"."""
    if seconds < 90:
        return _("{seconds} s").format(seconds=max(1, round(seconds)))
    minutes = round(seconds / 60)
    if minutes < 90:
        return _("{minutes} min").format(minutes=minutes)
    return _("{hours} h {minutes} min").format(hours=minutes // 60, minutes=minutes % 60)


def _sentence(seconds: float, memory: int | None, free: int | None, runs: int) -> str:
    text = _("About {time}")
    if memory is not None:
        text = _("About {time} and {memory} of memory")
        if free is not None:
            text = _("About {time} and {memory} of memory ({free} free)")
    text = text.format(time=words_for_seconds(seconds), memory=_gigabytes(memory or 0), free=_gigabytes(free or 0))
    sources = {0: _("a rough guess"), 1: _("learnt from 1 run on this machine")}
    text += f", {sources.get(runs, _('learnt from {runs} runs on this machine')).format(runs=runs)}."
    if memory is not None and free is not None and memory > free:
        text += " " + _("That is more than is free: choose fewer slices, a smaller model, or close other programs.")
    return text


def _gigabytes(count: int) -> str:
    return _("{amount:.1f} GB").format(amount=count / 1e9)


def _sound(run: object) -> bool:
    if not isinstance(run, dict):
        return False
    numbers = [run.get(key) for key in ("setup", "per_step", "voxels")]
    return all(isinstance(n, (int, float)) and n >= 0 for n in numbers) and isinstance(
        run.get("peak_bytes"), (int, type(None))
    )
