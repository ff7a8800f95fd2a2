"""A small bundle folder whose files are bytes only: storing and checking never look into weights."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from DiffMaCore.bundles.config import BundleConfig, ModelCard
from DiffMaCore.bundles.writing import seal
from Testing.bundles.hostile import WEIGHTS, write_safetensors

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


COMPONENTS: dict[str, dict[str, Any]] = {
    "denoiser": {"_class_name": "DiffMa", "latent_size": 8},
    "embedder": {"_class_name": "VisionEmbedder", "latent_size": 8},
    "vae": {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [32] * 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    "image_encoder": {"_class_name": "ImageEncoder", "embed_dim": 512, "vision_cfg": {}},
}


def _make_bundle(folder: Path, **changes: Any) -> Path:
    config = replace(CONFIG, **changes)
    index: dict[str, Any] = {"_class_name": "DiffMaPipeline", "bundle": config.to_dict()}
    for name, values in COMPONENTS.items():
        library = "diffusers" if name == "vae" else "DiffMaCore"
        index[name] = [library, values["_class_name"]]
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(values))
        count = 128000 if name == "denoiser" else 100
        header = {"weight": {"dtype": "F16", "shape": [count], "data_offsets": [0, 2 * count]}}
        write_safetensors(folder / name / WEIGHTS, header, random.Random(0).randbytes(2 * count))
    index["scheduler"] = ["diffusers", "DDIMScheduler"]
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": "DDIMScheduler"}))
    (folder / "model_index.json").write_text(json.dumps(index))
    seal(folder, config)
    return folder


@pytest.fixture
def config() -> BundleConfig:
    return CONFIG


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return _make_bundle(tmp_path / "given" / "tiny")


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Makes another sealed bundle folder with changes to its configuration."""
    return lambda folder, **changes: _make_bundle(tmp_path / folder, **changes)


@pytest.fixture
def zip_of() -> Callable[..., Path]:
    """Zips a bundle folder, by default with its files at the top."""

    def make(bundle: Path, path: Path, prefix: str = "") -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(bundle.rglob("*")):
                archive.write(file, prefix + file.relative_to(bundle).as_posix())
        return path

    return make


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user folder."""
    monkeypatch.setenv("DIFFMA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
