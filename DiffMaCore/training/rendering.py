"""The process that renders heads ahead of a training: one file a volume, CT and all contrasts, encoded if asked for."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from DiffMaCore.errors import TrainingError
from DiffMaCore.imaging.phantom import Head, Phantom, RenderOptions, load_head
from DiffMaCore.training.encoding import Encoder, stored_slices
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.files import replacing
from DiffMaCore.training.parts import kept_parts
from DiffMaCore.training.sources.heads import render_head, slices_of, training_heads

# noisier, blurrer and with less contrast than most scans: where the folds are hidden, a network must not invent them
OPTIONS = RenderOptions(noise=(0.8, 24.0), blur=(0.3, 2.0), grey_white=(5.5, 1.8), dense=0.15)
AHEAD = 3  # volumes rendered before they are needed
KEPT = 4  # volumes kept behind the window, which another process may still read
OF_TARGET = ("target", "target_latent")  # stored under the name of each contrast


@dataclass(frozen=True)
class FreshSpec:
    """What is rendered: all that a volume depends on but its number.

    Attributes:
        data: its heads, grid and contrasts.
        seed: the experiment's.
        folder: for the volumes.
        parts: folder of VAE and image encoder; None: slices only.
    """

    data: DataConfig
    seed: int
    folder: Path
    parts: Path | None


def volume_file(folder: Path, volume: int) -> Path:
    """The file of a rendered volume."""
    return folder / f"{volume:06d}.safetensors"


class VolumeMaker:
    """Renders the volumes of a spec one after the other."""

    def __init__(self, spec: FreshSpec) -> None:
        assert spec.data.heads is not None
        self.spec, self._heads = spec, spec.data.heads
        self._paths = sorted(training_heads(spec.data.heads).items())
        self._loaded: dict[str, Head] = {}
        self._encoder = None if spec.parts is None else Encoder(kept_parts(spec.parts), spec.data, torch.device("cpu"))
        self._next: int | None = None

    def make_next(self, newest: int) -> bool:
        """Make the lowest volume that is wanted and not there; whether there was one. Removes what is left behind."""
        oldest = max(0, newest - AHEAD - self._heads.pool + 1)
        first = oldest if self._next is None else max(self._next, oldest)
        for volume in range(first, newest + 1):
            self._next = volume + 1
            if not volume_file(self.spec.folder, volume).is_file():
                self._make(volume)
                self._clear(oldest - KEPT)
                return True
        return False

    def render(self, volume: int) -> Phantom:
        """The rendering of a number."""
        rng = np.random.default_rng([self.spec.seed, 0x4EAD, volume])
        name, path = self._paths[int(rng.integers(len(self._paths)))]
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

    def _clear(self, below: int) -> None:
        for path in self.spec.folder.glob("[0-9]*.safetensors"):
            if int(path.stem) < below:
                path.unlink(missing_ok=True)


class Renderer:
    """The process that renders ahead."""

    def __init__(self, spec: FreshSpec) -> None:
        context = multiprocessing.get_context("spawn")
        self.folder = spec.folder
        self._wanted = context.Value("q", -1)
        self._process: SpawnProcess = context.Process(target=_run, args=(spec, self._wanted), daemon=True)
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
