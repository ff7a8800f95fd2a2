"""``python -m benchmarks volume``, as small as it can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import volume as module
from benchmarks.__main__ import build_parser
from DiffMaCore.cli.main import main


def test_a_volume_is_converted_with_each_accelerating_thing_off_in_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = {"block_out_channels": (4,) * 4, "layers_per_block": 1, "norm_num_groups": 4}
    monkeypatch.setattr(module, "STABLE_DIFFUSION_VAE", {**module.STABLE_DIFFUSION_VAE, **vae})
    monkeypatch.setattr(module, "VIT_B_16", {**module.VIT_B_16, "image_size": 32, "layers": 1, "width": 64})
    file = tmp_path / "volume.json"
    small = ("--size", "S/2", "--image-size", "32", "--slices", "2", "--batch-size", "1", "--steps", "1")
    assert main(["volume", *small, "--rounds", "1", "--json", str(file)], build_parser()) == 0
    figures = json.loads(file.read_text())
    rows = {row["method"]: row for row in figures["results"]}
    assert list(rows) == ["everything on", "no overlap", "float32"]
    assert figures["unavailable"] == {"no graph": "there are no CUDA graphs on cpu"}
    assert rows["no overlap"]["difference"] == 0
    assert 0 < rows["float32"]["difference"] < 0.1
    assert [rows[name]["precision"] for name in rows] == ["bfloat16", "bfloat16", "float32"]
    assert all(row["slices_per_s"] == 2 / row["median_s"] and row["batch"] == 1 for row in rows.values())
    assert "no graph was left out" in capsys.readouterr().out
