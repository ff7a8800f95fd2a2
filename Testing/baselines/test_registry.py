"""Every system of Table 2: its size, and a bundle of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import nn

from DiffMaCore import DiffMa, DiffMaPipeline
from DiffMaCore.baselines.registry import TITLES, build_denoiser, build_regression, count_parameters
from DiffMaCore.baselines.regression import RegressionUNet
from DiffMaCore.baselines.unet import UNetDenoiser
from DiffMaCore.bundles.writing import seal
from DiffMaCore.training.experiment import Backbone
from Testing.conftest import mostly_slow
from Testing.images import head_like_ct

DENOISERS = tuple(name for name in TITLES if name != "regression")
PAPER = dict(latent_size=28, patch_size=2, width=512, depth=8)


def _shaken(model: nn.Module) -> nn.Module:
    """Zero-initialised layers made to count."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if not parameter.any() and parameter.dim() > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def test_the_systems_are_those_an_experiment_can_name() -> None:
    assert set(TITLES) == set(get_args(Backbone))
    assert list(TITLES)[-1] == "regression"


@pytest.mark.parametrize("backbone", mostly_slow(DENOISERS, "diffma", "dit"))
def test_at_the_papers_size_each_has_its_depth_and_45_41_million_parameters(backbone: str) -> None:
    with torch.device("meta"):
        model = build_denoiser(backbone, **PAPER, learn_sigma=True)
    assert count_parameters(model) / 1e6 == pytest.approx(45.41, rel=0.02)
    depths = {"diffma": 8, "dit": 7, "unet": None}
    assert model.config.get("depth") == depths.get(backbone, 13)


def test_at_the_papers_size_the_regression_is_as_large() -> None:
    with torch.device("meta"):
        assert count_parameters(build_regression(9, 224, 45_407_000)) / 1e6 == pytest.approx(45.41, rel=0.02)


@pytest.mark.parametrize(("width", "depth", "latent"), [(64, 2, 8), pytest.param(192, 4, 16, marks=pytest.mark.slow)])
def test_small_ones_are_matched_too(width: int, depth: int, latent: int) -> None:
    sizes = dict(latent_size=latent, patch_size=2, width=width, depth=depth)
    with torch.device("meta"):
        models = {name: build_denoiser(name, **sizes) for name in DENOISERS}
        target = count_parameters(models["diffma"])
        models["regression"] = build_regression(3, 8 * latent, target)
    for name, model in models.items():
        assert count_parameters(model) / target == pytest.approx(1, abs=0.02), name
    assert models["vim"].config["depth"] == {2: 3, 4: 6}[depth]


def test_where_the_published_width_is_right_it_stays() -> None:
    with torch.device("meta"):
        assert build_denoiser("vim", **PAPER).config["inner"] is None
        assert build_denoiser("dit", **PAPER).config["inner"] is None


def test_only_a_denoiser_is_built_as_one() -> None:
    with pytest.raises(ValueError, match="'regression'; a denoiser can be one of unet, diffma"):
        build_denoiser("regression", **PAPER)


@pytest.mark.parametrize("backbone", DENOISERS)
def test_a_new_denoiser_gives_zero_and_takes_every_condition(backbone: str) -> None:
    torch.manual_seed(0)
    model = build_denoiser(backbone, latent_size=8, patch_size=2, width=64, depth=2, state_size=4)
    inputs = [torch.randn(2, 4, 8, 8), torch.tensor([3, 900]), torch.randn(2, 64), torch.randn(2, 16, 64)]
    inputs += [torch.rand(2, 16, 1), torch.randn(2, 4, 8, 8)]
    assert not model(*inputs).sample.any()
    model = _shaken(model)
    for tensor in (inputs[0], *inputs[2:]):
        tensor.requires_grad_()
    out = model(*inputs).sample
    assert out.shape == (2, 4, 8, 8)
    gradients = torch.autograd.grad(out.square().sum(), [inputs[0], *inputs[2:]], allow_unused=True)
    named = dict(zip(("x", "clip", "ct", "mask", "ct latent"), gradients, strict=True))
    used = {name for name, gradient in named.items() if gradient is not None and gradient.any()}
    assert used == {"x", "clip", "ct"} | {"diffma": {"mask"}, "unet": {"ct latent"}}.get(backbone, set())


def test_the_unet_says_that_it_needs_the_cts_latent() -> None:
    model = UNetDenoiser(latent_size=8, width=32, channels=8)
    with pytest.raises(ValueError, match="pass ct_latent"):
        model(torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.zeros(1, 32), torch.zeros(1, 16, 32), torch.ones(1, 16, 1))


@pytest.mark.parametrize("latent", [7, 14, 28])
def test_the_unet_takes_latents_that_cannot_be_halved_as_often(latent: int) -> None:
    model = UNetDenoiser(latent_size=latent, width=32, channels=8)
    x = torch.zeros(1, 4, latent, latent)
    out = model(x, torch.zeros(1), torch.zeros(1, 32), torch.zeros(1, 4, 32), torch.ones(1, 4, 1), x)
    assert out.sample.shape == (1, 8, latent, latent)


def test_the_regression_sees_its_neighbours_and_is_the_same_when_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_regression(3, 32, 60_000).eval()
    pixels = torch.rand(2, 3, 32, 32).requires_grad_()
    out = model(pixels)
    assert out.shape == (2, 32, 32)
    out[0].sum().backward()
    assert pixels.grad is not None and pixels.grad[0].any(dim=(1, 2)).all() and not pixels.grad[1].any()
    model.save_pretrained(tmp_path)
    assert torch.equal(RegressionUNet.from_pretrained(tmp_path).eval()(pixels), out)
    assert RegressionUNet(3, 36, channels=4)(torch.rand(1, 3, 36, 36)).shape == (1, 36, 36)
    with pytest.raises(ValueError, match="34 px cannot be halved twice"):
        RegressionUNet(3, 34)


@pytest.mark.parametrize("backbone", mostly_slow(DENOISERS, "diffma", "unet"))
def test_a_saved_bundle_of_each_loads_converts_and_gives_the_same_numbers(
    backbone: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    tiny = DiffMaPipeline.from_pretrained(tiny_bundle)
    denoiser = build_denoiser(backbone, latent_size=8, patch_size=2, width=32, depth=2, state_size=4)
    parts = {name: getattr(tiny, name) for name in ("embedder", "vae", "image_encoder", "scheduler")}
    bundle = replace(tiny.bundle, name=backbone.replace("_", "-")).to_dict()
    pipe = DiffMaPipeline(denoiser=_shaken(denoiser), bundle=bundle, **parts)
    pipe.save_pretrained(tmp_path / "bundle")
    loaded = DiffMaPipeline.from_pretrained(tmp_path / "bundle")
    assert type(loaded.denoiser) is (UNetDenoiser if backbone == "unet" else DiffMa)
    assert loaded.latent_shape == (4, 8, 8) and loaded.batch_size() >= 1
    chosen = loaded.set_device("cpu", "torch")
    assert chosen == "torch" and loaded.scan_backend == ("none" if backbone in ("dit", "unet") else "torch")
    pipe.set_device("cpu", "torch")
    out, again = (p(head_like_ct(), num_inference_steps=2, slices=(2, 4)) for p in (pipe, loaded))
    first, second = (sitk.GetArrayFromImage(result.mr) for result in (out, again))
    assert np.array_equal(first, second) and first.std() > 0
    assert again.metadata["model_size"] == loaded.denoiser.title
    walks = {"diffma": "spiral", "dit": "none", "unet": "none"}
    assert again.metadata["scan_order"] == walks.get(backbone, backbone)
    if backbone == "unet":  # a bundle may have been written when its class was elsewhere
        index = tmp_path / "bundle" / "model_index.json"
        index.write_text(index.read_text().replace("DiffMaCore.baselines.unet", "DiffMaCore.models.unet"))
        assert "DiffMaCore.models.unet" in index.read_text()
        seal(tmp_path / "bundle", loaded.bundle)
        assert type(DiffMaPipeline.from_pretrained(tmp_path / "bundle").denoiser) is UNetDenoiser


def test_conditions_hold_the_latent_of_each_slice(tiny_bundle: Path) -> None:
    pipe = DiffMaPipeline.from_pretrained(tiny_bundle)
    conditions = pipe.conditions(torch.randn(2, 32, 32) * 300)
    assert conditions.ct_latent.shape == (2, 4, 8, 8)
