"""Calls of long work in, what a user sees of them out: a bar on a terminal, JSON lines for a program, or nothing."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from DiffMaCore.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

PROTOCOL = 1
"""Version of the JSON lines; it grows when a reader of the older ones would fail."""

EXTRAS = ("uncertainty", "soft_mask", "resampled_ct", "resampled_mr")
"""Files that may be written with a result, as its event names them."""

_BYTES_EVERY = 0.1  # seconds between two events about bytes
_LINES_EVERY = 30.0  # seconds between two lines about metrics where there is no terminal for a bar


class Reporter:
    """Makes an event of every call, and shows none; subclasses show them to a person or to a program.

    ``window`` holds the output values that pictures show black and white. Nothing heavy is imported before it is
    needed: a missing package must still be reported.
    """

    def __init__(self) -> None:
        self.window = (0.0, 1000.0)
        self.name, self.total, self.done = "", 0, 0
        self.latest: dict[str, float] = {}
        self._before = 0
        self.slices, self.slices_done = 0, 0
        self.item: dict[str, Any] = {}
        self._began = time.monotonic()
        self._seconds: dict[str, float] = {}
        self._unit, self._shown = "step", 0.0

    def _event(self, event: str, **facts: Any) -> None:
        """What a subclass shows; docs/protocol.md has a table of all."""

    def hello(self, **facts: Any) -> None:
        """The process has started; called before anything heavy is imported."""
        self._event("hello", **facts, protocol=PROTOCOL)

    def stage(self, name: str, total: int = 0, done: int = 0) -> None:
        """A stage of the work begins: ``total`` steps, 0 where that is not known; ``done`` were done before."""
        self._clock()
        self.name, self.total, self.done = name, total, done
        self.latest, self._before = {}, done
        self._event("stage", stage=name, total=total, **({"done": done} if done else {}))

    def advance(self, slice_index: int | None = None) -> None:
        """One step of the stage is done; ``slice_index`` is the last slice it worked on."""
        self.done += 1
        self._progress(slice=slice_index)

    def metrics(self, **values: float) -> None:
        """How the work is going, such as a loss: shown with the progress until there are newer ones."""
        self.latest = values

    def bytes_done(self, done: int, total: int, what: str) -> None:
        """``done`` of ``total`` bytes; ``what`` is "copying", "downloading" or "checking", and the file's name.

        Fewer than before mean that another pass over them began.
        """
        name, _, path = what.partition(" ")
        if name != self.name or done < self.done:
            self._unit = "B"
            self.stage(name, total)
            self._unit = "step"
        self.done = done
        if done == total or time.monotonic() - self._shown >= _BYTES_EVERY:
            self._shown = time.monotonic()
            self._progress(slice=None, unit="bytes", file=path)

    def _progress(self, **facts: Any) -> None:
        eta = None if self.eta is None else round(self.eta, 2)
        figures = {"figures": self.latest} if self.latest else {}
        self._event("progress", stage=self.name, step=self.done, total=self.total, eta=eta, **figures, **facts)

    @property
    def eta(self) -> float | None:
        """Seconds the stage will still take at the pace so far; None before its first step."""
        here = self.done - self._before
        if here <= 0 or not self.total:
            return None
        return (time.monotonic() - self._began) / here * (self.total - self.done)

    def lap(self) -> dict[str, float]:
        """Seconds of every stage since the last lap."""
        self._clock()
        seconds, self._seconds = self._seconds, {}
        return seconds

    def _clock(self) -> None:
        now = time.monotonic()
        if self.name:
            self._seconds[self.name] = self._seconds.get(self.name, 0.0) + now - self._began
        self._began = now

    def note(self, message: str) -> None:
        """Something the user should know, such as a resampling."""
        self._event("note", message=message)

    def warning(self, message: str) -> None:
        """Something that may spoil the result."""
        self._event("warning", message=message)

    def begin(self, input: Path, number: int, of: int) -> None:
        """The next volume is taken up, the ``number``-th of ``of``."""
        self.item = {"input": str(input), "number": number, "of": of}

    def volume(self, slices: list[int], **facts: Any) -> None:
        """The synthesis of the volume begins: the slices in the order they will come, and what a viewer needs."""
        self.slices, self.slices_done = len(slices), 0
        self._event("volume", **self.item, **facts, slices=slices)

    def slice_done(self, index: int, axis: int, values: np.ndarray, picture: np.ndarray) -> None:
        """A slice is finished.

        Args:
            index: of the slice along array axis ``axis`` of the (z, y, x) volume.
            axis: 0, 1 or 2.
            values: the slice as it stands in the volume.
            picture: the same values with anterior up and the patient's right on the left.
        """
        self.slices_done += 1

    def result(self, **facts: Any) -> None:
        """The work is finished: for a volume, where it was written and how it was made."""
        self._event("result", **facts)

    def error(self, message: str, kind: str, **facts: Any) -> None:
        """A volume, or the whole run, failed."""
        self._event("error", message=message, kind=kind, **facts)

    def summary(self, converted: int, failed: list[dict[str, str]]) -> None:
        """Several volumes were tried: how many came out, and the input and reason of each that did not."""
        self._event("summary", converted=converted, failed=failed)

    def close(self) -> None:
        """The work is over."""


class TerminalReporter(Reporter):
    """A progress bar with ETA and plain sentences, on standard error."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr
        self._bar: tqdm | None = None
        self._said = time.monotonic()

    def _event(self, event: str, **facts: Any) -> None:
        from tqdm import tqdm

        if event in ("stage", "error"):
            self.close()
        if event == "stage" and self.total:
            # disable=None: no bar where the stream is not a terminal; a bar of bytes vanishes when it is done
            of_bytes = self._unit == "B"
            look: dict[str, Any] = {
                "unit": self._unit,
                "unit_scale": of_bytes,
                "leave": not of_bytes,
                "dynamic_ncols": True,
            }
            self._bar = tqdm(
                total=self.total, initial=self.done, desc=self.name, file=self._stream, disable=None, **look
            )
        elif event == "stage":
            self._say(f"{self.name} ...")
        elif event == "progress" and self._bar is not None:
            if "file" in facts:
                self._bar.set_description(f"{self.name} {facts['file']}", refresh=False)
            self._bar.update(self.done - self._bar.n)
        elif event in ("note", "warning", "error"):
            self._say(f"{event}: {facts['message']}")
        elif event == "result":  # what was written with the file that the command names itself
            for path in (facts[name] for name in EXTRAS if name in facts):
                self._say(f"wrote {path}")

    def metrics(self, **values: float) -> None:
        """Behind the bar; without a terminal, as in a cluster's log, a line with the time left now and then."""
        from tqdm import tqdm

        super().metrics(**values)
        words = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(words, refresh=False)
        elif time.monotonic() - self._said >= _LINES_EVERY:
            self._said = time.monotonic()
            left = "" if self.eta is None else f", {tqdm.format_interval(self.eta)} left"
            self._say(f"{self.name} {self.done}/{self.total}: {words}{left}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def _say(self, message: str) -> None:
        from tqdm import tqdm

        tqdm.write(message, file=self._stream)


class JsonReporter(Reporter):
    """One JSON object a line on standard output, in ASCII; finished slices are saved for a viewer to pick up.

    Args:
        previews: folder for the slices, each as ``.png`` to look at and ``.npy`` with its values; by default a new
            temporary one, made for the first slice. It is the reader's to delete.
        stream: standard output as it is now, whatever is printed to later.
    """

    def __init__(self, previews: Path | None = None, stream: IO[str] | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stdout
        self._previews = previews

    def _event(self, event: str, **facts: Any) -> None:
        # in one piece: an interruption must not part a line from its end
        self._stream.write(json.dumps({"event": event, **facts}) + "\n")
        self._stream.flush()

    def slice_done(self, index: int, axis: int, values: np.ndarray, picture: np.ndarray) -> None:
        import numpy as np
        from PIL import Image

        super().slice_done(index, axis, values, picture)
        if self._previews is None:
            self._previews = Path(tempfile.mkdtemp(prefix="diffma-previews-"))
        try:
            self._previews.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"cannot make the folder {self._previews} for previews ({error.strerror})"
            raise OutputError(f"{reason}; choose another for --previews") from error
        # a volume's slices must not replace those of the one before, which may not have been picked up yet
        volume = f"volume_{self.item['number']}_" if self.item.get("of", 1) > 1 else ""
        stem = self._previews / f"{volume}slice_{index:04d}"
        np.save(stem.with_suffix(".npy"), values, allow_pickle=False)
        low, high = self.window
        grey = np.clip((picture - low) / (high - low) * 255, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(stem.with_suffix(".png"))
        paths = {"preview": str(stem.with_suffix(".png")), "values": str(stem.with_suffix(".npy"))}
        self._event("slice", slice=index, axis=axis, done=self.slices_done, total=self.slices, **paths)
