"""The folder of one training run, and the account it gives of what was run.

run.json        what was run: configuration, settings, and for every time it was started: command, versions,
                git revision, machine, processes, from which step to which
metrics.csv     losses, learning rate, gradient norm, slices a second
tensorboard/    the same and the samples, where TensorBoard is installed
samples/        pictures and arrays of the averaged weights along the way, and figures.csv
checkpoints/    the newest two
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path, PurePath
from typing import Any

from DiffMaCore import __version__
from DiffMaCore.devices import host_memory, processor_name
from DiffMaCore.packages import installed_version
from DiffMaCore.training.checkpoints import Checkpoints
from DiffMaCore.training.files import replacing, write_json
from DiffMaCore.training.task import Sample

PACKAGES = ("torch", "accelerate", "diffusers", "safetensors", "numpy", "numba", "mamba-ssm", "open_clip_torch")


class RunFolder:
    """Where a run writes.

    Args:
        path: of the folder; it need not exist.
        config: the whole configuration, resolved, as plain values; kept in run.json.
        command: the words that started the run; folders of whoever runs it are left out of what is kept.
    """

    def __init__(self, path: Path, config: Mapping[str, Any] | None = None, command: Sequence[str] = ()) -> None:
        self.path = path
        self.config = dict(config or {})
        self.command = [_without_folders(word) for word in command]
        self.checkpoints = Checkpoints(path / "checkpoints")

    @property
    def metrics(self) -> Path:
        """Figures by step."""
        return self.path / "metrics.csv"

    @property
    def samples(self) -> Path:
        """Pictures by step."""
        return self.path / "samples"

    def account(self) -> dict[str, Any]:
        """What run.json says; empty before the first start, or where it cannot be read."""
        try:
            return dict(json.loads((self.path / "run.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    @property
    def finished(self) -> int | None:
        """Steps of the run whose result is there; None while there is none."""
        account = self.account()
        return account.get("step") if account.get("status") == "finished" else None

    def begin(self, step: int, facts: Mapping[str, Any], session: Mapping[str, Any]) -> None:
        """The run is started, or goes on after ``step``; ``session`` tells how this time."""
        now = {
            "started": _now(),
            "ended": None,
            "first_step": step,
            "last_step": step,
            "command": self.command,
            "versions": versions(),
            "git": git_revision(),
            "machine": machine(),
            **session,
        }
        sessions = [*self.account().get("sessions", []), now]
        account = {"format": 1, "status": "training", "step": step, **facts, "config": self.config}
        write_json(self.path / "run.json", {**account, "sessions": sessions})

    def tell(self, status: str, step: int, ended: bool = False, **facts: Any) -> None:
        """Where the run stands: "training", "stopped", "failed" or "finished"."""
        account = self.account()
        session = account["sessions"][-1]
        session["last_step"] = step
        session["ended"] = _now() if ended else None
        account.update(status=status, step=step, **facts)
        write_json(self.path / "run.json", account)

    def keep(self, step: int, sample: Sample) -> None:
        """The sample's picture and arrays, named after the step."""
        import numpy as np

        stem = self.samples / f"step_{step:08d}"
        if sample.picture is not None:
            with replacing(stem.with_suffix(".png")) as part:
                sample.picture.save(part, format="png")
        if sample.arrays:
            with replacing(stem.with_suffix(".npz")) as part, part.open("wb") as file:
                np.savez_compressed(file, **sample.arrays)  # type: ignore[arg-type]


def versions() -> dict[str, str]:
    """Of Python, of DiffMa and of the packages that a result depends on, where they are installed."""
    found = {name: installed_version(name) for name in PACKAGES}
    own = {"python": platform.python_version(), "diffma": __version__}
    return own | {name: version for name, version in found.items() if version is not None}


def machine() -> dict[str, Any]:
    """Processor, memory and accelerators; not the machine's name."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    facts = {"system": platform.platform(), "processor": processor_name(), "cores": os.cpu_count()}
    return {**facts, "memory_bytes": host_memory()[0], "gpus": gpus, "torch_threads": torch.get_num_threads()}


def git_revision() -> dict[str, Any] | None:
    """Revision of the working tree that this package runs from, and whether it was changed; None without one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _without_folders(word: str) -> str:
    """An absolute path's last part: a run folder may be passed on, and its owner's folders are nobody's business."""
    key, equals, value = word.rpartition("=")
    return key + equals + PurePath(value).name if PurePath(value).is_absolute() else word


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
