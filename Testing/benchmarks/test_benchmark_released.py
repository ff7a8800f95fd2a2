"""Our sampling against the released procedure: what is measured and told, at sizes that say nothing about speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import released as module
from benchmarks.__main__ import build_parser
from DiffMaCore import DiffMa, DiffMaPipeline
from DiffMaCore.cli.main import main
from DiffMaCore.progress import Reporter


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks around the denoiser, and few steps to the ODE's solution."""
    vae = {"block_out_channels": (4,) * 4, "layers_per_block": 1, "norm_num_groups": 4}
    monkeypatch.setattr(module, "STABLE_DIFFUSION_VAE", {**module.STABLE_DIFFUSION_VAE, **vae})
    monkeypatch.setattr(module, "VIT_B_16", {**module.VIT_B_16, "image_size": 32, "layers": 1, "width": 64})
    monkeypatch.setattr(module, "ODE_STEPS", 40)
    monkeypatch.setattr(module, "SLICES", 2)


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
def test_both_procedures_are_timed_in_parts_and_their_ratios_and_errors_are_told(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "released.json"
    small = ("--size", "S/7", "--image-size", "56", "--batch", "2", "--rounds", "2", "--model", str(tiny_bundle))
    assert main(["released", *small, "--json", str(file)], build_parser()) == 0
    figures = json.loads(file.read_text())
    assert figures["procedures"]["released"] == {"scheduler": "ddpm", "steps": 250, "batch": 1, "scan": "reference"}
    assert figures["procedures"]["ours"] == {"scheduler": "dpm++", "steps": 15, "batch": 2, "scan": "numba"}
    for key, parts in figures["parts"].items():
        assert parts.keys() == {"conditions", "denoising", "decoding"}
        assert all(0 < part["min"] <= part["median"] <= part["max"] for part in parts.values())
        assert figures["whole"][key]["min"] > sum(part["min"] for part in parts.values()) * 0.999
    # 250 steps one by one against 15 in a batch of 2: slower by more than a machine's mood
    assert all(ratio["min"] > 2 for ratio in figures["ratio"].values())
    error = figures["error"]
    assert len(error["ours"]["slices"]) == len(error["released"]["slices"]) == 2
    assert error["agreement"] < 1e-5
    table = capsys.readouterr().out
    assert f"{error['ours']['median']:.4f}" in table and "draws noise at every step" in table
    assert figures["machine"]["processor"] in table and "timed: 2 steps of each a round, multiplied" in table


def test_the_demos_fast_steps_stay_nearer_to_the_ode_than_ancestral_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ODE_STEPS", 40)
    monkeypatch.setattr(module, "RELEASED_STEPS", 10)
    monkeypatch.setattr(module, "SLICES", 1)
    error = module._error(DiffMaPipeline.from_pretrained("demo"), "demo", Reporter())
    assert error["agreement"] < 1e-5
    assert error["ours"]["max"] < 0.1 < error["released"]["min"]


def test_an_error_is_relative_to_the_exact_latent_slice_by_slice() -> None:
    exact = torch.full((2, 4, 3, 3), 2.0)
    assert module.relative_errors(exact * torch.tensor([1.0, 1.5]).view(2, 1, 1, 1), exact) == [0, 0.5]


def test_a_bundle_without_diffmas_blocks_is_refused(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = DiffMaPipeline.from_pretrained(tiny_bundle)
    pipe.register_modules(denoiser=DiffMa(latent_size=8, patch_size=2, width=32, depth=1, backbone="dit"))
    pipe.save_pretrained(tmp_path / "dit")
    assert main(["released", "--model", str(tmp_path / "dit")], build_parser()) == 2
    assert "give a bundle whose denoiser is a DiffMa" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(("--size", "B/3"), "did you mean"), (("--batch", "0"), "at least one slice"), (("--threads", "0"), "at least 1")],
)
def test_what_cannot_be_timed_is_told(wrong: tuple[str, str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["released", *wrong], build_parser()) == 2
    assert words in capsys.readouterr().err
