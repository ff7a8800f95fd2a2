"""The demo's whole chain in small, and what the shipped bundle can do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from DiffMaCore.pipeline import DiffMaPipeline
from DiffMaCore.training.configuring import load_config
from DiffMaCore.training.demo import chain as demo
from DiffMaCore.training.demo.config import DemoConfig
from DiffMaCore.training.demo.data import make_phantoms
from DiffMaCore.training.demo.embedder import slices_to_latents
from DiffMaCore.training.soft_masks import mask_share

FOLDER = Path(__file__).resolve().parents[3]
SHIPPED = FOLDER / "DiffMaCore" / "data" / "demo"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the tiny configuration."""
    out = tmp_path_factory.mktemp("run")
    threads = torch.get_num_threads()
    pipe = demo.train(load_config(FOLDER / "Training" / "tiny.yaml", DemoConfig), out)
    torch.set_num_threads(threads)
    return out, pipe


def test_the_chain_writes_a_bundle_that_loads_and_gives_the_same_image(run):
    out, pipe = run
    loaded = DiffMaPipeline.from_pretrained(out / "bundle")
    assert loaded.bundle == pipe.bundle and loaded.bundle.demo
    hu = torch.full((1, 32, 32), -1000.0)
    hu[:, 8:24, 8:24] = 40.0
    images = [p.decode(p.denoise(p.conditions(hu), steps=2)) for p in (pipe, loaded)]
    assert torch.equal(*images)
    assert tuple(images[0].shape) == (1, 32, 32)
    assert images[0].min() >= 0 and images[0].max() <= 1000


def test_latents_have_about_unit_variance(run):
    out, _ = run
    latents = torch.load(out / "work" / "latents.pt", weights_only=True)
    assert latents["mr"].shape == (24, 4, 8, 8) and latents["clip_embedding"].shape == (24, 16)
    assert 0.5 < latents["mr"].float().std() < 2.0


def test_a_finished_run_is_loaded_and_not_trained_again(run):
    out, pipe = run
    stamp = (out / "work" / "denoiser.ckpt").stat().st_mtime_ns
    again = demo.train(load_config(FOLDER / "Training" / "tiny.yaml", DemoConfig), out)
    assert (out / "work" / "denoiser.ckpt").stat().st_mtime_ns == stamp
    for a, b in zip(pipe.denoiser.parameters(), again.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_unfinished_denoiser_can_be_exported(run, tmp_path):
    out, pipe = run
    config = load_config(FOLDER / "Training" / "tiny.yaml", DemoConfig)
    exported = demo.bundle_from_checkpoint(config, out, tmp_path / "bundle")
    for a, b in zip(pipe.denoiser.parameters(), exported.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "bundle" / "model_index.json").is_file()


def test_the_bundle_has_a_small_decoder_that_is_compared_with_the_full_one(run):
    out, pipe = run
    assert (out / "bundle" / "small_decoder" / "config.json").is_file()
    found = demo.evaluate_on_phantoms(pipe, load_config(FOLDER / "Training" / "tiny.yaml", DemoConfig), [1], 9, 1)
    assert found.small_to_full is not None and -1 <= found.small_to_full.ssim < 1 and found.small_to_full.mae > 0


def test_evaluation_refuses_a_phantom_that_was_trained_on(run):
    _, pipe = run
    with pytest.raises(ValueError, match="trained on"):
        demo.evaluate_on_phantoms(pipe, load_config(FOLDER / "Training" / "tiny.yaml", DemoConfig), [1000])


@pytest.fixture(scope="module")
def shipped() -> DiffMaPipeline:
    return DiffMaPipeline.from_pretrained(SHIPPED)


def test_the_shipped_bundle_is_called_demo_and_says_what_it_is(shipped):
    assert shipped.bundle.demo and shipped.bundle.name == "demo" and "DEMO" in shipped.bundle.title
    assert "phantoms" in shipped.bundle.card.training_data and shipped.bundle.card.licence == "MIT"
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*")) < 40e6


def test_the_shipped_bundle_beats_both_simple_answers_and_its_small_decoder_is_near_the_full_one(shipped):
    config = load_config(FOLDER / "Training" / "demo.yaml", DemoConfig)
    found = demo.evaluate_on_phantoms(shipped, config, config.data.held_out[:2], every=8, steps=10)
    for simple in (found.linear, found.mean):
        assert found.ours.ssim > simple.ssim + 0.1
        assert found.ours.psnr > simple.psnr + 1.5
    assert found.small_to_full is not None and found.small_to_full.ssim >= 0.95


def test_the_shipped_soft_mask_follows_the_slice(shipped, tmp_path):
    config = load_config(FOLDER / "Training" / "tiny.yaml", DemoConfig)
    size = shipped.bundle.image_size
    small = config.data.__class__(
        **{**config.data.__dict__, "image_size": size, "pixel_spacing": shipped.bundle.pixel_spacing}
    )
    slices = make_phantoms(small, tmp_path)
    latents = slices_to_latents(shipped.vae, slices, shipped.bundle.hu_windows, 16)
    assert mask_share(shipped.embedder, latents) > 0.2
