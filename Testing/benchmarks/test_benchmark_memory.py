"""Memory of a conversion's parts: what is measured, on networks too small to say anything of the true ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import memory as module
from benchmarks.__main__ import build_parser
from DiffMaCore.cli.main import main

TINY = {
    **module.STABLE_DIFFUSION_VAE,
    "block_out_channels": (32, 32, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 8,
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STABLE_DIFFUSION_VAE", TINY)
    monkeypatch.setattr(module, "VIT_B_16", {**module.VIT_B_16, "image_size": 32, "layers": 1, "width": 64})


@pytest.mark.slow
def test_every_part_is_measured_in_a_fresh_process_and_told_beside_the_reckoning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, picture = tmp_path / "memory.json", tmp_path / "memory.png"
    small = ["--sizes", "S/7", "--image-sizes", "224", "--batches", "1", "6", "--threads", "1"]
    assert main(["memory", *small, "--json", str(file), "--plot", str(picture)], build_parser()) == 0
    figures = json.loads(file.read_text())
    one, six = figures["points"]
    assert (one["tokens"], one["batch"], six["batch"]) == (16, 1, 6)
    for point in (one, six):
        assert list(point["parts"]) == list(module.PARTS)
        assert point["measured"] == max(point["parts"].values()) > 0
        assert point["ratio"] == pytest.approx(point["reckoned"] / point["measured"])
    assert six["reckoned"] == 6 * one["reckoned"]
    map_bytes = 4 * 224 * 224 * 32  # of the decoder, at full size
    assert six["parts"]["decoding"] - one["parts"]["decoding"] > 5 * map_bytes
    table = capsys.readouterr().out
    assert "reckoned" in table and figures["machine"]["processor"] in table
    with Image.open(picture) as opened:
        assert opened.width > 500


def test_what_cannot_be_is_refused_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "--batches", "0"], build_parser()) == 2
    assert "at least one slice" in capsys.readouterr().err
    assert main(["memory", "--sizes", "S/3"], build_parser()) == 2
    assert "did you mean" in capsys.readouterr().err
