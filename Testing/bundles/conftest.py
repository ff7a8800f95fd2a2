"""A small bundle folder whose files are bytes only: storing and checking never look into weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from DiffMaCore.bundles.config import BundleConfig, ModelCard
from DiffMaCore.bundles.writing import seal

CONFIG = BundleConfig(
    name="tiny",
    title="Tiny brain CT to T1",
    anatomy="brain",
    image_size=64,
    pixel_spacing=3.5,
    hu_windows=((-1000.0, 1000.0),),
    mr_normalisation={"method": "percentile", "low": 0.5, "high": 99.5},
    output_units="arbitrary",
    card=ModelCard("phantoms", "MIT", "it is tiny", "made by a test", "1"),
)


def make_bundle(folder: Path, **changes: object) -> Path:
    """A sealed bundle folder with ``changes`` to its configuration."""
    config = replace(CONFIG, **changes)
    (folder / "denoiser").mkdir(parents=True)
    sizes = {"width": 512, "depth": 8, "patch_size": 2, "latent_size": 8}
    (folder / "denoiser" / "config.json").write_text(json.dumps(sizes))
    (folder / "denoiser" / "diffusion_pytorch_model.safetensors").write_bytes(bytes(range(256)) * 1000)
    index = {"_class_name": "DiffMaPipeline", "bundle": config.to_dict()}
    index["denoiser"] = ["DiffMaCore.models.denoiser", "DiffMa"]
    (folder / "model_index.json").write_text(json.dumps(index))
    seal(folder, config)
    return folder


@pytest.fixture
def config() -> BundleConfig:
    return CONFIG


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "given" / "tiny")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user folder."""
    monkeypatch.setenv("DIFFMA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
