"""Everything that decides a demo bundle."""

from __future__ import annotations

from dataclasses import dataclass

from DiffMaCore.training.demo.data import DataConfig
from DiffMaCore.training.demo.denoiser import DenoiserConfig
from DiffMaCore.training.demo.embedder import EmbedderConfig
from DiffMaCore.training.demo.image_encoder import ImageEncoderConfig
from DiffMaCore.training.demo.small_decoder import SmallDecoderConfig
from DiffMaCore.training.demo.vae import RefineConfig, VaeConfig


@dataclass(frozen=True)
class DemoConfig:
    """Everything that decides a demo bundle: data, HU windows, the networks and the bundle's words."""

    name: str
    title: str
    anatomy: str
    seed: int
    threads: int
    hu_windows: tuple[tuple[float, float], ...]
    output_range: tuple[float, float]
    data: DataConfig
    vae: VaeConfig
    image_encoder: ImageEncoderConfig
    embedder: EmbedderConfig
    denoiser: DenoiserConfig
    refine: RefineConfig
    small_decoder: SmallDecoderConfig
    card: dict[str, str]
