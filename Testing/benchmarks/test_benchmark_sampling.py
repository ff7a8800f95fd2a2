"""How few steps suffice: what is measured on a tiny experiment whose systems were never trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from benchmarks.__main__ import build_parser
from benchmarks.sampling import benchmark_sampling
from benchmarks.sampling_ways import warm_start, ways
from DiffMaCore.cli.main import main
from DiffMaCore.errors import InputError
from DiffMaCore.inference.pipeline import DiffMaPipeline
from DiffMaCore.progress import Reporter
from DiffMaCore.training.experiment import Experiment, Folders
from Testing.training.evaluation.tiny_models import make_tiny_systems, plain
from Testing.training.tiny_cache import make_tiny_cache

STEPS = (3, 10, 40)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Folders, Path]:
    return make_tiny_systems(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def figures(tiny: tuple[Experiment, Folders, Path]) -> dict[str, Any]:
    experiment, folders, _ = tiny
    return benchmark_sampling(experiment, folders, slices=2, steps=STEPS, device="cpu")


def errors(figures: dict[str, Any], way: str) -> list[float]:
    return [row["to_ode"]["median"] for row in figures["rows"] if row["way"] == way]


@pytest.mark.slow
def test_the_ode_is_at_no_distance_from_itself_and_ancestral_sampling_has_no_ode(figures: dict[str, Any]) -> None:
    ode, *others = figures["rows"]
    assert (ode["steps"], ode["to_ode"]["median"]) == (1000, 0)
    assert all((row["to_ode"] is None) == (row["scheduler"] == "ddpm") for row in others)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["dpm++", "unipc", "ddim"])
def test_more_steps_come_nearer_to_the_ode(figures: dict[str, Any], scheduler: str) -> None:
    few, more, most = errors(figures, scheduler)
    assert few > more > most
    assert most < 0.3 * few


@pytest.mark.slow
def test_another_noise_leads_further_away_than_any_number_of_steps(figures: dict[str, Any]) -> None:
    assert errors(figures, "dpm++, another noise")[0] > max(errors(figures, "dpm++"))


@pytest.mark.slow
def test_every_way_is_told_with_errors_quality_and_time(figures: dict[str, Any]) -> None:
    assert len(figures["rows"]) == 1 + len(ways(STEPS, ("own", "neighbour", "regression")))
    for row in figures["rows"]:
        assert row["seconds"]["min"] > 0 and row["to_truth"]["median"] > 0
        assert -1 <= row["ssim"]["median"] <= 1 and row["psnr"]["median"] > 0
        assert len(row["ssim"]["slices"][0]) == figures["shape"]["slices"] == 2
    assert {row["guess"] for row in figures["rows"]} == {None, "own", "neighbour", "regression"}


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again(
    tiny: tuple[Experiment, Folders, Path], figures: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folders, config = tiny
    counts = [str(count) for count in STEPS]
    command = ["sampling", "--config", str(config), "--out", str(folders.root), "--device", "cpu"]
    assert main([*command, "--slices", "2", "--steps", *counts], build_parser()) == 0
    told = json.loads((folders.root / "sampling" / "sampling.json").read_text())
    assert told["rows"] == figures["rows"]  # seconds too
    table = capsys.readouterr().out
    assert "| released: ddpm, batch 1 | 250 | - |" in table and "2 test slices of 32 px" in table
    with Image.open(folders.root / "sampling" / "sampling.png") as picture:
        assert picture.width > 1000


def test_a_warm_start_takes_no_more_steps_than_it_is_given(tiny: tuple[Experiment, Folders, Path]) -> None:
    pipe = DiffMaPipeline.from_pretrained(tiny[1].system("diffma") / "bundle")
    conditions = pipe.conditions(torch.zeros(2, 32, 32))
    for guess in (None, torch.zeros(2, *pipe.latent_shape)):
        reporter = Reporter()
        latents = warm_start(pipe, conditions, 5, 500, 0, guess, reporter.advance)
        assert reporter.done == 5 and latents.shape == (2, *pipe.latent_shape)


def test_an_untrained_experiment_is_answered_with_the_command_that_trains_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, folders = make_tiny_cache(tmp_path)
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(plain(experiment)), encoding="utf-8")
    command = ["sampling", "--config", str(config), "--out"]
    assert main([*command, str(folders.root)], build_parser()) != 0
    assert "run `diffma train denoiser --backbone diffma`" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "nothing")], build_parser()) != 0
    assert "run `diffma prepare`" in capsys.readouterr().err
    with pytest.raises(InputError, match="at least one slice"):
        benchmark_sampling(experiment, folders, slices=0)
