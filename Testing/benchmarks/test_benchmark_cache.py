"""The comparison of training with and without the cache."""

from __future__ import annotations

import torch

from benchmarks import cache as module
from benchmarks.__main__ import build_parser
from DiffMaCore.cli.main import main


def test_all_steps_run_and_their_ratio_is_of_the_same_rounds(monkeypatch, capsys):
    tiny = {**module.STABLE_DIFFUSION_VAE, "block_out_channels": (4,) * 4, "layers_per_block": 1, "norm_num_groups": 4}
    monkeypatch.setattr(module, "STABLE_DIFFUSION_VAE", tiny)
    monkeypatch.setattr(module, "VIT_B_16", {**module.VIT_B_16, "image_size": 32, "layers": 1, "width": 64})
    figures = module.benchmark_cache("S/7", batch=2, image_size=56, rounds=2)
    assert [row["method"] for row in figures["results"]] == ["cached", "encoding", "released"]
    assert figures["results"][0]["ratio"] == 1
    assert all(row["ratio_min"] <= row["ratio"] <= row["ratio_max"] for row in figures["results"])
    assert figures["released"] == {"precision": "fp32", "scan": "reference"}
    assert figures["parameters"]["denoiser"] > 2e7 and "random" in figures["weights"]
    assert torch.is_grad_enabled()


def test_a_size_that_table_1_does_not_have_is_told_with_the_nearest(capsys):
    assert main(["cache", "--size", "B/3"], build_parser()) == 2
    assert "did you mean" in capsys.readouterr().err


def test_no_slices_is_told(capsys):
    assert main(["cache", "--batch", "0"], build_parser()) == 2
    assert "at least one slice" in capsys.readouterr().err
