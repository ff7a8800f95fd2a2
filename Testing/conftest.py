"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "Testing" / "golden"
APART = ("host", "module")
LONGEST = ("/test_apart_", "/faults/", "/docs/", "/training/", "/test_cluster", "/ops/", "/phantom/")

HEADS = "DIFFMA_TEST_HEADS"
"""The variable that names a folder for the heads of this run; its processes share it."""
if HEADS not in os.environ:
    _heads = tempfile.TemporaryDirectory()
    os.environ[HEADS] = _heads.name

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:  # several that each take all threads get in each other's way; torch reads it when it is imported
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also the tests marked slow: every system, size and kernel")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no worker waits for it at the end."""
    if "DiffMaCore.imaging.phantom" in sys.modules:  # not in a process of Slicer's
        import Testing.heads  # noqa: F401  cleans heads once
    items.sort(key=lambda item: next((n for n, word in enumerate(LONGEST) if word in item.nodeid), len(LONGEST)))
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow; --slow runs it"))


def mostly_slow(values: Iterable[str], *quick: str) -> list[Any]:
    """Parameters of which all but ``quick`` are slow."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Folders whose tests run apart (``apart.py``) are collected only if they are asked for by name."""
    named = any(part in Path(word).parts for word in map(str, config.invocation_params.args) for part in APART)
    return True if collection_path.name in APART and collection_path.parent.name == "Testing" and not named else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real scans and golden vectors kept beside the repository; a clone without it skips."""
    folder = ROOT.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("no ../shared folder beside this clone (real scans and golden vectors are not bundled)")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle of tiny random networks: it converts in no time, and its images mean nothing."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    make_tiny_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def expecting_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle that gives the expected image and samples, of CT pixels of three slices, by a guided decoder."""
    folder = tmp_path_factory.mktemp("expecting_bundles") / "tiny"
    make_tiny_bundle(folder, expects=True)
    return folder


@pytest.fixture(scope="session")
def tiny_bundle_with_small_decoder(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle with a small decoder, which is random too."""
    folder = tmp_path_factory.mktemp("bundles_with_small_decoder") / "tiny"
    shutil.copytree(tiny_bundle, folder)
    add_small_decoder(folder)
    return folder


@pytest.fixture
def one_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that reads files outlives every conversion: it takes a third of a second to start."""
    monkeypatch.setattr("DiffMaCore.inference.convert.reader", SimpleNamespace(end=lambda: None))


@pytest.fixture
def coarse_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands render heads with a twentieth of their voxels."""
    from Testing.heads import coarse_phantom

    monkeypatch.setattr("DiffMaCore.imaging.phantom.head_phantom", coarse_phantom)


def add_small_decoder(folder: Path) -> None:
    """Give a tiny bundle a small decoder; tests where torch must not be imported call it in another process."""
    from DiffMaCore.inference.import_released import complete_bundle

    complete_bundle(folder, small_decoder=str(save_small_decoder(folder.with_name("decoder"))))


def save_small_decoder(folder: Path, channels: int = 4, levels: int = 3) -> Path:
    """A random AutoencoderTiny in diffusers' layout; it enlarges 2 to the number of levels less one."""
    import torch
    from diffusers import AutoencoderTiny

    torch.manual_seed(4)
    AutoencoderTiny(
        latent_channels=channels,
        encoder_block_out_channels=(1,) * levels,
        num_encoder_blocks=(0,) * levels,
        decoder_block_out_channels=(8,) * levels,
        num_decoder_blocks=(1,) * levels,
    ).save_pretrained(folder)
    return folder


def make_tiny_bundle(folder: Path, expects: bool = False) -> None:
    """Save the bundle of ``tiny_bundle``; tests where torch must not be imported call it in another process.

    ``expects``: that of ``expecting_bundle``.
    """
    import torch
    from diffusers import AutoencoderKL

    from DiffMaCore import DiffMa, DiffMaPipeline, ImageEncoder, VisionEmbedder
    from DiffMaCore.bundles.config import BundleConfig, ModelCard
    from DiffMaCore.diffusion.schedulers import make_scheduler
    from DiffMaCore.models.guided_decoder import GuidedDecoder

    torch.manual_seed(0)
    kind = {"ct_conditioning": "pixels", "learn_sigma": False} if expects else {}
    denoiser = DiffMa(latent_size=8, patch_size=2, width=32, depth=2, **kind)
    for block in denoiser.blocks:
        torch.nn.init.normal_(block.adaLN_modulation[1].weight, std=0.1)
    torch.nn.init.normal_(denoiser.final.linear.weight, std=0.1)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
    )
    config = BundleConfig(
        name="tiny",
        title="tiny random networks (for tests)",
        anatomy="brain",
        image_size=32,
        pixel_spacing=7.0,
        hu_windows=((-1000, 1000), (-150, 250), (-20, 80)),
        mr_normalisation={"method": "percentile", "low": 0.5, "high": 99.5, "mask": "body"},
        output_units="arbitrary",
        card=ModelCard("none", "MIT", "random weights", "tests", "0"),
        modes=("mean", "sample") if expects else ("sample",),
        neighbour_distance=6.0 if expects else None,
    )
    vision = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    pipe = DiffMaPipeline(
        denoiser=denoiser,
        embedder=VisionEmbedder(latent_size=8, patch_size=2, width=32),
        vae=vae,
        image_encoder=ImageEncoder(32, vision),
        scheduler=make_scheduler(prediction_type="v_prediction") if expects else make_scheduler(),
        bundle=config.to_dict(),
        guided_decoder=GuidedDecoder(4, channels=(8, 8, 16), blocks=1, error_channels=(8, 8, 8)) if expects else None,
    )
    pipe.save_pretrained(folder)
