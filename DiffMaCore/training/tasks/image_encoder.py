"""Training of the image encoder as CLIP is trained: the source slice against the target of the same slice."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.diffusion.conditions import encoder_pixels, mr_to_pixels
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.training.cache import PairedCache, SliceDataset, source_pixels
from DiffMaCore.training.experiment import Experiment, Folders
from DiffMaCore.training.sharded_rng import ShardedRNG
from DiffMaCore.training.task import Rows
from DiffMaCore.training.tasks.rows import training_rows
from DiffMaCore.training.tasks.summary import write_trained

_TEMPERATURE = 0.07  # to begin with
_SCALED_BY = 256  # embeddings of so many slices have unit variance together


class ImageEncoderTask:
    """Two towers; the target's is thrown away."""

    name = "image-encoder"
    whole_batch = True

    def __init__(self, experiment: Experiment, folders: Folders, cache: PairedCache) -> None:
        self.config, self.cache = experiment.image_encoder, cache
        vision = {
            "image_size": cache.data.image_size // self.config.patch_size * self.config.patch_size,
            "layers": self.config.layers,
            "width": self.config.width,
            "head_width": self.config.head_width,
            "patch_size": self.config.patch_size,
            "mlp_ratio": self.config.mlp_ratio,
        }
        self.model: nn.Module = _Towers(experiment.denoiser.width, vision)
        self.dataset: Rows = training_rows(experiment, folders, cache, ("source", "target"))
        own = {key: value for key, value in asdict(self.config).items() if key != "train"}
        self.settings: Mapping[str, Any] = {
            **own,
            "embed_dim": experiment.denoiser.width,
            "data": cache.data_fingerprint,
        }

    def loss(self, model: nn.Module, batch: dict[str, Tensor], rng: ShardedRNG) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE over the whole batch, both ways, with a temperature that is learned (Radford et al. 2021)."""
        a, b, scale = model(self._pixels(batch["source"]), self._scaled(mr_to_pixels(batch["target"])))
        similarity = F.normalize(rng.gather(a), dim=1) @ F.normalize(rng.gather(b), dim=1).T * scale
        target = torch.arange(len(similarity), device=similarity.device)
        matched = (similarity.argmax(dim=1) == target).float().mean()
        loss = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
        return loss, {"matched": matched.detach()}

    def sample(self, model: nn.Module) -> None:
        """There is nothing to see."""
        return None

    @torch.no_grad()
    def finish(self, model: nn.Module, folder: Path) -> None:
        """Write ``model/``, embeddings scaled to about unit variance a component, and ``summary.json``."""
        towers: Any = model
        encoder: Any = copy.deepcopy(towers.source).eval()
        prepared = SliceDataset(self.cache, self.cache.ids("train"), ("source",)).spread(_SCALED_BY)
        spread = encoder(self._pixels(prepared["source"])).std()
        encoder.visual.proj.mul_(1.0 / spread.clamp(min=1e-6))
        write_trained(folder, encoder, "image_encoder", "Image encoder")

    def _pixels(self, source: Tensor) -> Tensor:
        return self._scaled(source_pixels(source, self.cache.data))

    def _scaled(self, pixels: Tensor) -> Tensor:
        towers: Any = self.model
        return encoder_pixels(pixels, towers.source.image_size)


class _Towers(nn.Module):
    def __init__(self, embed_dim: int, vision: dict[str, Any]) -> None:
        super().__init__()
        self.source, self.target = (ImageEncoder(embed_dim, dict(vision)) for _ in range(2))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / _TEMPERATURE)))

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.source(source), self.target(target), self.log_scale.exp().clamp(max=100)
