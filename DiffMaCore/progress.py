"""How long work shows itself: a bar on a terminal, JSON lines for a program, or nothing for a library call."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm


class Reporter:
    """Says nothing. Its subclasses say the same things to a person or to a program.

    ``window`` holds the output values that pictures show black and white.
    """

    def __init__(self) -> None:
        self.window = (0.0, 1000.0)
        self.name, self.total, self.done, self._began = "", 0, 0, 0.0

    def stage(self, name: str, total: int = 0) -> None:
        """A stage of the work begins; ``total`` steps, 0 where that is not known."""
        self.name, self.total, self.done, self._began = name, total, 0, time.monotonic()

    def advance(self, slice_index: int | None = None) -> None:
        """One step of the stage is done; ``slice_index`` is the last slice it worked on."""
        self.done += 1

    @property
    def eta(self) -> float | None:
        """Seconds the stage will still take at the pace so far; None before its first step."""
        if not self.done or not self.total:
            return None
        return (time.monotonic() - self._began) / self.done * (self.total - self.done)

    def note(self, message: str) -> None:
        """Something the user should know, such as a resampling."""

    def warning(self, message: str) -> None:
        """Something that may spoil the result."""

    def slice_done(self, index: int, axis: int, values: np.ndarray, picture: np.ndarray) -> None:
        """A slice is finished.

        Args:
            index: of the slice along array axis ``axis`` of the (z, y, x) volume.
            axis: 0, 1 or 2.
            values: the slice as it stands in the volume.
            picture: the same values with anterior up and the patient's right on the left.
        """

    def result(self, **facts: Any) -> None:
        """A volume is finished, with where it was written and how it was made."""

    def error(self, message: str, kind: str) -> None:
        """A volume, or the whole run, failed."""

    def close(self) -> None:
        """The work is over."""


class TerminalReporter(Reporter):
    """A progress bar with ETA and plain sentences, on standard error."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr
        self._bar: tqdm | None = None

    def stage(self, name: str, total: int = 0) -> None:
        super().stage(name, total)
        self.close()
        if total:
            # disable=None: no bar where the stream is not a terminal
            self._bar = tqdm(total=total, desc=name, file=self._stream, unit="step", dynamic_ncols=True, disable=None)
        else:
            self._say(f"{name} ...")

    def advance(self, slice_index: int | None = None) -> None:
        super().advance(slice_index)
        if self._bar is not None:
            self._bar.update()

    def note(self, message: str) -> None:
        self._say(f"note: {message}")

    def warning(self, message: str) -> None:
        self._say(f"warning: {message}")

    def error(self, message: str, kind: str) -> None:
        self.close()
        self._say(f"error: {message}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _say(self, message: str) -> None:
        tqdm.write(message, file=self._stream)


class JsonReporter(Reporter):
    """One JSON object a line on standard output; finished slices are saved for a viewer to pick up.

    Args:
        previews: folder for the slices, each as ``.png`` to look at and ``.npy`` with its values.
    """

    def __init__(self, previews: Path, stream: IO[str] | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stdout
        self._previews = previews

    def stage(self, name: str, total: int = 0) -> None:
        super().stage(name, total)
        self._write("stage", stage=name, total=total)

    def advance(self, slice_index: int | None = None) -> None:
        super().advance(slice_index)
        eta = None if self.eta is None else round(self.eta, 2)
        self._write("progress", stage=self.name, step=self.done, total=self.total, slice=slice_index, eta=eta)

    def note(self, message: str) -> None:
        self._write("note", message=message)

    def warning(self, message: str) -> None:
        self._write("warning", message=message)

    def slice_done(self, index: int, axis: int, values: np.ndarray, picture: np.ndarray) -> None:
        from PIL import Image

        self._previews.mkdir(parents=True, exist_ok=True)
        stem = self._previews / f"slice_{index:04d}"
        np.save(stem.with_suffix(".npy"), values, allow_pickle=False)
        low, high = self.window
        grey = np.clip((picture - low) / (high - low) * 255, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(stem.with_suffix(".png"))
        paths = {"preview": str(stem.with_suffix(".png")), "values": str(stem.with_suffix(".npy"))}
        self._write("slice", slice=index, axis=axis, **paths)

    def result(self, **facts: Any) -> None:
        self._write("result", **facts)

    def error(self, message: str, kind: str) -> None:
        self._write("error", message=message, kind=kind)

    def _write(self, event: str, **facts: Any) -> None:
        print(json.dumps({"event": event, **facts}), file=self._stream, flush=True)
