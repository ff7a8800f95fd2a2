"""Fresh training slices all the time: a process renders heads ahead, and batches are drawn from the newest of them.

Volume k of an experiment is a function of its seed and k alone, and so is what row r of the training is: the volumes
of a window that moves on with r, then a volume, a contrast and a slice of it by a generator of (seed, r). A training
that was stopped sees what it would have seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from DiffMaCore.training.batches import Batch, to_device
from DiffMaCore.training.cache import Case, TensorFile
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.rendering import AHEAD, KEPT, OF_TARGET, FreshSpec, Renderer, volume_file

_FIRST = 8  # volumes that training begins with
_SCANNED_MM = 180.0  # of a head that a scan shows, about


def fresh_spec(experiment: Experiment, folders: Folders, fingerprint: str, encoded: bool) -> FreshSpec:
    """What an experiment renders; ``fingerprint`` is its cache's, under which volumes are kept."""
    folder = folders.data / "fresh" / f"{fingerprint[:12]}{'' if encoded else '-slices'}"
    return FreshSpec(experiment.data, experiment.seed, folder, folders.data / "parts" if encoded else None)


class FreshSlices:
    """Rows of a training (see ``batches.Rows``): row r is the r-th slice that is ever trained on.

    Args:
        spec: what is rendered.
        keys: what a row holds, as of ``SliceDataset`` without ct_embedding and soft_mask.
        contrasts: numbers of those that are drawn; None: all.
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

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {key: value[0] for key, value in to_device(self.batch([row]), torch.device("cpu")).items()}

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
        """Number of the newest volume that a row may be of."""
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
