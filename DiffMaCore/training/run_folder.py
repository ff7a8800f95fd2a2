"""The folder of one training run, the account it gives of what was run, and its metrics.

run.json        what was run: configuration, settings, and for every time it was started: command, versions,
                git revision, machine, processes, from which step to which
metrics.csv     losses, learning rate, gradient norm, slices a second
tensorboard/    the same and the samples, where TensorBoard is installed
samples/        pictures and arrays of the averaged weights along the way, and figures.csv
checkpoints/    the newest two
summary.json    what a finished run came to
"""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path, PurePath
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from DiffMaCore import __version__
from DiffMaCore.devices import host_memory, processor_name
from DiffMaCore.files import read_facts, replacing, replacing_folder, write_json
from DiffMaCore.packages import installed_version
from DiffMaCore.training.checkpoints import Checkpoints

PACKAGES = ("torch", "accelerate", "diffusers", "safetensors", "numpy", "numba", "mamba-ssm", "open_clip_torch")


@dataclass(frozen=True)
class Sample:
    """What a task shows of itself now and then: for a person, for the report (kept as ``.npz``), and for the log."""

    picture: Image.Image | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


class RunFolder:
    """Where a run writes; ``config`` (the whole configuration, as plain values) and ``command`` (the words that started
    the run, without folders of whoever runs it) are kept in run.json."""

    def __init__(self, path: Path, config: Mapping[str, Any] | None = None, command: Sequence[str] = ()) -> None:
        self.path = path
        self.config = dict(config or {})
        self.command = [_without_folders(word) for word in command]
        self.checkpoints = Checkpoints(path / "checkpoints")
        self.metrics, self.samples = path / "metrics.csv", path / "samples"

    def account(self) -> dict[str, Any]:
        """What run.json says; empty before the first start, or where it cannot be read."""
        return read_facts(self.path / "run.json")

    @property
    def finished(self) -> int | None:
        """Steps of the run whose result is there; None while there is none."""
        account = self.account()
        return account.get("step") if account.get("status") == "finished" else None

    def begin(self, step: int, facts: Mapping[str, Any], session: Mapping[str, Any]) -> None:
        """The run is started, or goes on after ``step``; ``session`` tells how this time."""
        now: dict[str, Any] = {"started": _now(), "ended": None, "first_step": step, "last_step": step}
        now |= {"command": self.command, "versions": versions(), "git": git_revision(), "machine": machine(), **session}
        sessions = [*self.account().get("sessions", []), now]
        account = {"format": 1, "status": "training", "step": step, **facts, "config": self.config}
        write_json(self.path / "run.json", {**account, "sessions": sessions})

    def tell(self, status: str, step: int, ended: bool = False, **facts: Any) -> None:
        """Where the run stands: "training", "stopped", "failed" or "finished"."""
        account = self.account()
        account["sessions"][-1].update(last_step=step, ended=_now() if ended else None)
        write_json(self.path / "run.json", {**account, "status": status, "step": step, **facts})

    def keep(self, step: int, sample: Sample) -> None:
        """The sample's picture and arrays, named after the step."""
        stem = self.samples / f"step_{step:08d}"
        if sample.picture is not None:
            with replacing(stem.with_suffix(".png")) as part:
                sample.picture.save(part, format="png")
        if sample.arrays:
            with replacing(stem.with_suffix(".npz")) as part, part.open("wb") as file:
                np.savez_compressed(file, **sample.arrays)  # type: ignore[arg-type]


def versions() -> dict[str, str]:
    """Of Python, of DiffMa and of the packages that a result depends on, where they are installed."""
    own = {"python": platform.python_version(), "diffma": __version__}
    return own | {name: version for name in PACKAGES if (version := installed_version(name)) is not None}


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
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

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


class MetricsLog:
    """Rows of metrics by step in ``metrics.csv``; those after ``step`` are forgotten, for the run does them again."""

    def __init__(self, path: Path, step: int, board: Board) -> None:
        self.path, self._board = path, board
        self._rows = [row for row in read_metrics(path) if row["step"] <= step]
        self._rewrite()

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """One more row; metrics of a new name become a new column."""
        self._rows.append({"step": step, **metrics})
        if metrics.keys() - set(self._columns):
            self._rewrite()
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(self._rows[-1])
        self._board.scalars(step, metrics)

    def _rewrite(self) -> None:
        self._columns = list(dict.fromkeys(["step", *(name for row in self._rows for name in row)]))
        with replacing(self.path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.csv``: step (int) and metrics (float, absent where there was none). No file: no rows.

    A last line that was cut short by the end of the process is left out.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if line.endswith("\n")))
    kinds = {"step": int}
    return [{name: kinds.get(name, float)(value) for name, value in row.items() if value} for row in rows]


class Board:
    """TensorBoard's file of a run, or nothing where it is not installed.

    Written at once, as the CSV is: TensorBoard's own writer is a thread, whose trace nobody can hold back where the
    disk is full.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path: Path | None = None
        try:
            from tensorboard.compat.proto.event_pb2 import SessionLog
        except ImportError:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"events.out.tfevents.{int(time.time()):010d}.{os.getpid()}"
        self._write(0, file_version="brain.Event:2")
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))  # later ones are done again

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """Curves."""
        for name, value in metrics.items():
            self._summary(step, "scalar", name, value)

    def picture(self, step: int, name: str, picture: Image.Image) -> None:
        """A picture of the samples."""
        self._summary(step, "image", name, np.asarray(picture.convert("RGB")), dataformats="HWC")

    def text(self, name: str, value: Any) -> None:
        """The configuration, to read with the curves."""
        self._summary(0, "text", name, f"```json\n{json.dumps(value, indent=2)}\n```")

    def _summary(self, step: int, kind: str, *what: Any, **options: Any) -> None:
        if self._path is not None:
            from torch.utils.tensorboard import summary

            self._write(step, summary=getattr(summary, kind)(*what, **options))

    def _write(self, step: int, **what: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._path is not None
        with self._path.open("ab") as file:
            RecordWriter(file).write(Event(wall_time=time.time(), step=step, **what).SerializeToString())


@dataclass
class Window:
    """Figures of the steps since the last row, to be averaged; it travels with the checkpoint."""

    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    rows: int = 0
    seconds: float = 0.0

    def add(self, metrics: Mapping[str, float], rows: int, seconds: float) -> None:
        """One step of ``rows`` slices."""
        self.sums |= {name: self.sums.get(name, 0.0) + value for name, value in metrics.items()}
        self.steps, self.rows, self.seconds = self.steps + 1, self.rows + rows, self.seconds + seconds

    def means(self) -> dict[str, float]:
        """Averages, and the pace."""
        means = {name: value / self.steps for name, value in self.sums.items()}
        return {**means, "samples_per_second": self.rows / max(self.seconds, 1e-9)}


def write_trained(
    folder: Path, network: Any, system: str, title: str, counted: nn.Module | None = None, **facts: Any
) -> None:
    """Write ``folder/model``, a model of diffusers', and ``folder/summary.json``, for which the run's metrics are read.

    ``system`` is the backbone's word, or "embedder", ``title`` the same for people; ``counted`` the part of the network
    whose parameters are counted, where it is not the whole; ``facts`` what else this system has to tell.
    """
    with replacing_folder(folder / "model") as part:
        network.save_pretrained(part)
    run = RunFolder(folder)
    rows, shown, account = read_metrics(run.metrics), read_metrics(run.samples / "figures.csv"), run.account()
    held_out = [row["held_out_loss"] for row in shown if "held_out_loss" in row]
    paces = [row["samples_per_second"] for row in rows if row.get("samples_per_second")]
    batch = account["sessions"][-1]["train"]["batch_size"] if account.get("sessions") else None
    losses = [row["loss"] for row in rows] or [None]
    summary = {
        "system": system,
        "title": title,
        "parameters": sum(p.numel() for p in (counted or network).parameters()),
        "steps": int(account.get("step", 0)),
        "losses": {"first": losses[0], "last": losses[-1], "held_out": held_out[-1] if held_out else None},
        "seconds_per_step": batch / median(paces) if batch and paces else None,
    }
    write_json(folder / "summary.json", summary | facts)


def read_trained(folder: Path, cls: Any, name: str = "") -> Any | None:
    """The network of class ``cls`` that a finished run left in ``folder/model``, or in ``name`` below where it trained
    several, for inference; None where none did."""
    model = folder / "model" / name
    if not (model / "config.json").is_file():
        return None
    return cls.from_pretrained(model, local_files_only=True).eval().requires_grad_(False)


def read_summary(folder: Path) -> dict[str, Any]:
    """What ``folder/summary.json`` says; empty where there is none."""
    return read_facts(folder / "summary.json")
