"""Fresh training slices all the time: a process renders heads ahead, and batches are drawn from the newest of them.

Volume k of an experiment is a function of its seed and k alone, and so is what row r of the training is: the volumes
of a window that moves on with r, then a volume, a contrast and a slice of it by a generator of (seed, r). A training
that was stopped sees what it would have seen.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from DiffMaCore.errors import TrainingError
from DiffMaCore.files import replacing
from DiffMaCore.imaging.phantom import Head, Phantom, RenderOptions, has_t1, load_head
from DiffMaCore.training.batches import Batch
from DiffMaCore.training.cache import Case, TensorFile
from DiffMaCore.training.experiment import DataConfig, Experiment, Folders
from DiffMaCore.training.parts import Encoder, stored_slices
from DiffMaCore.training.sources.heads import render_head, slices_of, training_heads

# noisier, with coarser noise and streaks, blurrer and with less contrast than most scans: where the folds are hidden, a
# network must not invent them
OPTIONS = RenderOptions(
    noise=(0.8, 24.0),
    blur=(0.3, 2.0),
    cutoff=(0.10, 0.40),
    streaks=0.4,
    pictures=0.2,
    grey_white=(5.5, 1.8),
    dense=0.15,
)
REAL_SHARE = 0.25  # of volumes that are of a head with a real T1, where there is one
AHEAD = 3  # volumes rendered before they are needed
KEPT = 4  # volumes kept behind the window, which another process may still read
OF_TARGET = ("target", "target_latent")  # stored under the name of each contrast
_FIRST = 8  # volumes that training begins with
_SCANNED_MM = 180.0  # of a head that a scan shows, about


@dataclass(frozen=True)
class FreshSpec:
    """What is rendered: all that a volume depends on but its number."""

    data: DataConfig  # its heads, grid and contrasts
    seed: int  # the experiment's
    folder: Path  # for the volumes
    parts: Path | None  # folder of VAE and image encoder; None: slices only


def fresh_spec(experiment: Experiment, folders: Folders, fingerprint: str, encoded: bool) -> FreshSpec:
    """What an experiment renders; ``fingerprint`` is its cache's, under which volumes are kept."""
    folder = folders.data / "fresh" / f"{fingerprint[:12]}{'' if encoded else '-slices'}"
    return FreshSpec(experiment.data, experiment.seed, folder, folders.data / "parts" if encoded else None)


def volume_file(folder: Path, volume: int) -> Path:
    """The file of a rendered volume."""
    return folder / f"{volume:06d}.safetensors"


class VolumeMaker:
    """Renders the volumes of a spec one after the other."""

    def __init__(self, spec: FreshSpec) -> None:
        assert spec.data.heads is not None
        self.spec, self._heads = spec, spec.data.heads
        found = sorted(training_heads(spec.data.heads).items())
        self._real = [each for each in found if has_t1(each[1])]
        self._others = [each for each in found if not has_t1(each[1])]
        self._loaded: dict[str, Head] = {}
        self._encoder = None if spec.parts is None else Encoder(spec.parts, spec.data, "cpu")
        self._next: int | None = None

    def make_next(self, newest: int) -> bool:
        """Make the lowest volume that is wanted and not there; whether there was one. Removes what is left behind."""
        oldest = max(0, newest - AHEAD - self._heads.pool + 1)
        first = oldest if self._next is None else max(self._next, oldest)
        for volume in range(first, newest + 1):
            self._next = volume + 1
            if not volume_file(self.spec.folder, volume).is_file():
                self._make(volume)
                for path in self.spec.folder.glob("[0-9]*.safetensors"):
                    if int(path.stem) < oldest - KEPT:
                        path.unlink(missing_ok=True)
                return True
        return False

    def render(self, volume: int) -> Phantom:
        rng = np.random.default_rng([self.spec.seed, 0x4EAD, volume])
        heads = self._others or self._real
        if self._others and self._real and rng.random() < REAL_SHARE:
            heads = self._real
        name, path = heads[int(rng.integers(len(heads)))]
        if name not in self._loaded:
            self._loaded[name] = load_head(path, cache=self.spec.folder.parent)
        return render_head(self._loaded[name], volume, self.spec.data, OPTIONS)

    def _make(self, volume: int) -> None:
        phantom, data = self.render(volume), self.spec.data
        tensors: dict[str, Tensor] = {}
        for contrast, word in enumerate(data.targets):
            slices = slices_of(phantom, data, contrast)
            kept = stored_slices(slices, data)
            if self._encoder is not None:
                kept |= self._encoder.target(torch.from_numpy(slices.target))
                if contrast == 0:
                    kept |= self._encoder.source(torch.from_numpy(slices.source))
            # targets of each contrast; all else is of the head
            tensors |= {f"{key}_{word}" if key in OF_TARGET else key: value for key, value in kept.items()}
        with replacing(volume_file(self.spec.folder, volume)) as part:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, {"head": phantom.head})


class Renderer:
    """The process that renders ahead."""

    def __init__(self, spec: FreshSpec) -> None:
        context = multiprocessing.get_context("spawn")
        self.folder = spec.folder
        self._wanted = context.Value("q", -1)
        self._process = context.Process(target=_run, args=(spec, self._wanted), daemon=True)
        self._process.start()

    def ask_for(self, volume: int) -> None:
        self._wanted.value = max(self._wanted.value, volume)

    def check(self) -> None:
        """Raise TrainingError where the process has ended."""
        if not self._process.is_alive():
            problem = self.folder / "problem.txt"
            reason = problem.read_text(encoding="utf-8").strip() if problem.is_file() else "without a word"
            raise TrainingError(f"the process that renders heads ended ({reason.splitlines()[-1]}); see {problem}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()


def _run(spec: FreshSpec, wanted: Any) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    torch.set_num_threads(1)
    spec.folder.mkdir(parents=True, exist_ok=True)
    (spec.folder / "problem.txt").unlink(missing_ok=True)  # of an earlier process
    try:
        maker = VolumeMaker(spec)
        while parent.is_alive():
            if not maker.make_next(wanted.value + AHEAD):
                time.sleep(0.1)
    except Exception:
        (spec.folder / "problem.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise SystemExit(1) from None


class FreshSlices:
    """Rows of a training (see ``batches.Rows``): row r is the r-th slice that is ever trained on.

    ``keys`` are as of ``SliceDataset``; ``contrasts`` are the numbers of those that are drawn, None: all.
    """

    in_order = True

    def __init__(self, spec: FreshSpec, keys: Sequence[str], contrasts: Sequence[int] | None = None) -> None:
        assert spec.data.heads is not None
        self.spec, self.keys, self._heads = spec, tuple(keys), spec.data.heads
        self._contrasts = tuple(contrasts) if contrasts is not None else tuple(range(len(spec.data.targets)))
        self._files: dict[int, TensorFile] = {}
        self._renderer: Renderer | None = None

    def __len__(self) -> int:
        return 1 << 62  # there is always one more

    def where(self, row: int) -> str:
        """What a row is called in an error."""
        case, place = self._place(row)
        return f"rendered volume {case.id}, {self.spec.data.targets[case.contrast]}, slice {place}"

    def batch(self, rows: Sequence[int]) -> Batch:
        """Rows stacked to (B, ...); waits for volumes that are not rendered yet."""
        if not int(os.environ.get("RANK", "0")):  # process 0 renders for all
            self._renderer = self._renderer or Renderer(self.spec)
            self._renderer.ask_for(max(self._newest(row) for row in rows))
        places = [self._place(row) for row in rows]
        batch = {key: torch.stack([case.value(key, index) for case, index in places]) for key in self.keys}
        return {"row": torch.tensor(rows), **batch}

    def close(self) -> None:
        """End the process that renders."""
        if self._renderer is not None:
            self._renderer.stop()
            self._renderer = None

    def _newest(self, row: int) -> int:
        slices = _SCANNED_MM / self._heads.slice_spacing
        return _FIRST - 1 + int(row / (self._heads.slice_shows * slices * len(self._contrasts)))

    def _place(self, row: int) -> tuple[Case, int]:
        """The volume with one of its contrasts, and the slice, that a row is."""
        rng = np.random.default_rng([self.spec.seed, 0xF5E5, row])
        newest = self._newest(row)
        volume = newest - int(rng.integers(min(self._heads.pool, newest + 1)))
        contrast = self._contrasts[int(rng.integers(len(self._contrasts)))]
        file, data = self._file(volume), self.spec.data
        slices = len(file.whole("slice_index"))
        entry = {"id": volume, "contrast": contrast, "slices": slices, "spacing": self._heads.slice_spacing}
        names = {key: f"{key}_{data.targets[contrast]}" for key in OF_TARGET}
        return Case(entry, file, data, names), int(rng.integers(slices))

    def _file(self, volume: int) -> TensorFile:
        if volume not in self._files:
            path = volume_file(self.spec.folder, volume)
            while not path.is_file():
                if self._renderer is not None:
                    self._renderer.check()
                time.sleep(0.1)
            self._files[volume] = TensorFile(path)
            for old in [number for number in self._files if number < volume - self._heads.pool - AHEAD - KEPT]:
                del self._files[old]
        return self._files[volume]
