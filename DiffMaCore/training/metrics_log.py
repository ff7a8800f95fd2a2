"""The figures of a run: always a CSV file, and TensorBoard's where it is installed."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from DiffMaCore.training.files import replacing


class MetricsLog:
    """Rows of figures by step in ``metrics.csv``; those after ``step`` are forgotten, for the run does them again."""

    def __init__(self, path: Path, step: int, board: Board) -> None:
        self.path, self._board = path, board
        self._rows = [row for row in read_metrics(path) if row["step"] <= step]
        self._columns: list[str] = []
        self._rewrite()

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """One more row; figures of a new name become a new column."""
        row = {"step": step, **figures}
        self._rows.append(row)
        if row.keys() - set(self._columns):
            self._rewrite()
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(row)
        self._board.scalars(step, figures)

    def _rewrite(self) -> None:
        self._columns = list(dict.fromkeys(["step", *(name for row in self._rows for name in row)]))
        with replacing(self.path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.csv``: step (int) and figures (float, absent where there was none). No file: no rows.

    A last line that was cut short by the end of the process is left out.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in file if line.endswith("\n")]
    rows = csv.DictReader(lines)
    return [
        {name: int(value) if name == "step" else float(value) for name, value in row.items() if value} for row in rows
    ]


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

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """Curves."""
        if self._path is not None:
            from torch.utils.tensorboard import summary

            for name, value in figures.items():
                self._write(step, summary=summary.scalar(name, value))

    def picture(self, step: int, name: str, picture: Image.Image) -> None:
        """A picture of the samples."""
        if self._path is not None:
            from torch.utils.tensorboard import summary

            pixels = np.asarray(picture.convert("RGB"))
            self._write(step, summary=summary.image(name, pixels, dataformats="HWC"))

    def text(self, name: str, value: Any) -> None:
        """The configuration, to read beside the curves."""
        if self._path is not None:
            from torch.utils.tensorboard import summary

            self._write(0, summary=summary.text(name, f"```json\n{json.dumps(value, indent=2)}\n```"))

    def _write(self, step: int, **what: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._path is not None
        with self._path.open("ab") as file:
            RecordWriter(file).write(Event(wall_time=time.time(), step=step, **what).SerializeToString())


class Window:
    """Figures of the steps since the last row, to be averaged; it travels with the checkpoint."""

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        kept = kept or {"sums": {}, "steps": 0, "rows": 0, "seconds": 0.0}
        self.sums: dict[str, float] = dict(kept["sums"])
        self.steps, self.rows, self.seconds = kept["steps"], kept["rows"], kept["seconds"]

    def add(self, figures: Mapping[str, float], rows: int, seconds: float) -> None:
        """One step of ``rows`` slices."""
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps, self.rows, self.seconds = self.steps + 1, self.rows + rows, self.seconds + seconds

    def take(self) -> dict[str, float]:
        """Averages, and the pace; a new window begins."""
        means = {name: value / self.steps for name, value in self.sums.items()}
        pace = self.rows / max(self.seconds, 1e-9)
        self.sums, self.steps, self.rows, self.seconds = {}, 0, 0, 0.0
        return {**means, "samples_per_second": pace}

    def kept(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"sums": self.sums, "steps": self.steps, "rows": self.rows, "seconds": self.seconds}
