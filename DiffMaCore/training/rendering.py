"""The process that renders heads ahead of a training: one file a volume, CT and all contrasts, encoded if asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from DiffMaCore.models.autoencoders import load_autoencoder
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.phantom import Head, load_head
from DiffMaCore.training.configuring import build
from DiffMaCore.training.encoding import Encoder, stored
from DiffMaCore.training.files import replacing
from DiffMaCore.training.fresh import AHEAD, KEPT, FreshSpec, volume_file
from DiffMaCore.training.parts import PartRecord, Parts
from DiffMaCore.training.sources.heads import render_head, slices_of, to_pixels, training_heads


class VolumeMaker:
    """Renders the volumes of a spec one after the other."""

    def __init__(self, spec: FreshSpec) -> None:
        assert spec.data.heads is not None
        self.spec, self._heads = spec, spec.data.heads
        self._paths = sorted(training_heads(spec.data.heads).items())
        self._loaded: dict[str, Head] = {}
        self._encoder = None if spec.parts is None else Encoder(_parts(spec.parts), spec.data, torch.device("cpu"))
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

    def _make(self, volume: int) -> None:
        rng = np.random.default_rng([self.spec.seed, 0x4EAD, volume])
        name, path = self._paths[int(rng.integers(len(self._paths)))]
        if name not in self._loaded:
            self._loaded[name] = load_head(path, cache=self.spec.folder.parent)
        phantom = render_head(self._loaded[name], volume, self.spec.data)
        data = self.spec.data
        first = slices_of(phantom, data, 0)
        tensors: dict[str, Tensor] = {
            "source": stored(first.source, data.source),
            "body": torch.from_numpy(first.body.astype(np.uint8)),
            "slice_index": torch.from_numpy(first.index),
        }
        if self._encoder is not None:
            tensors |= self._encoder.source(torch.from_numpy(first.source))
        for contrast in data.targets:
            target = to_pixels(phantom.mr[contrast][first.index])
            tensors[f"target_{contrast}"] = stored(target, "mr")
            if self._encoder is not None:
                latent = self._encoder.target(torch.from_numpy(target))["target_latent"]
                tensors[f"target_latent_{contrast}"] = latent
        with replacing(volume_file(self.spec.folder, volume)) as part:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, {"head": name})

    def _clear(self, below: int) -> None:
        for path in self.spec.folder.glob("[0-9]*.safetensors"):
            if int(path.stem) < below:
                path.unlink(missing_ok=True)


def _parts(folder: Path) -> Parts:
    found = json.loads((folder / "parts.json").read_text(encoding="utf-8"))
    records = {name: build(PartRecord, record, f"parts.json: {name}") for name, record in found.items()}
    return Parts(
        load_autoencoder(folder / "vae"),
        ImageEncoder.from_pretrained(folder / "image_encoder", local_files_only=True).eval(),
        records,
    )
