"""A step against the machine's rates: what is counted and told, at sizes that say nothing about speed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import roofline as module
from benchmarks.__main__ import build_parser
from benchmarks.cli import roofline as command
from benchmarks.exponentials import PER_TASK, _exponentials, take_exponentials
from DiffMaCore import DiffMa, preset
from DiffMaCore.baselines.counting import count
from DiffMaCore.cli.main import main
from DiffMaCore.errors import InputError
from DiffMaCore.ops.scan.numba_forward import PLANE


def test_the_floor_is_the_counted_arithmetic_at_the_measured_rates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "roofline.json"
    small = ("--size", "S/7", "--image-size", "112", "--batch", "2", "--rounds", "1")
    assert main(["roofline", *small, "--json", str(file)], build_parser()) == 0
    figures = json.loads(file.read_text())
    counted = count("S/7", 112)
    assert figures["counts"] == {
        "matmuls": 2 * counted.macs_matmul,
        "decays": 2 * counted.decays,
        "activations": 2 * counted.activations,
    }
    assert figures["counts"]["matmuls"] + figures["left_out"]["scan"] == 2 * counted.macs
    rates = {"matmuls": "matmuls", "decays": "exponentials", "activations": "exponentials"}
    for part, rate in rates.items():
        seconds = figures["counts"][part] / figures["rates"][rate]["median"]
        assert figures["parts"][part]["median"] == pytest.approx(seconds)
    roofline = sum(part["median"] for part in figures["parts"].values())
    assert figures["roofline"]["median"] == pytest.approx(roofline)
    assert figures["ratio"]["median"] == pytest.approx(figures["step"]["median"] / roofline)
    assert sum(share["median"] for share in figures["share"].values()) == pytest.approx(1 / figures["ratio"]["median"])
    table = capsys.readouterr().out
    assert f"step / roofline: {figures['ratio']['median']:.2f}" in table and figures["machine"]["processor"] in table


def test_the_timed_products_are_the_steps_own_but_for_those_in_the_scans_kernel() -> None:
    model = DiffMa(**preset("S/7", 56))
    mambas = [block.mamba for block in model.blocks]
    inside = 3 * model.tokens * sum(mamba.x_proj.numel() + mamba.dt_weight.numel() for mamba in mambas)
    assert module._own_products(model, 2)() == 2 * (count("S/7", 56).macs_matmul - inside)


def test_exponentials_are_taken_in_whole_tasks_and_are_right() -> None:
    assert take_exponentials(1) == PER_TASK
    assert take_exponentials(PER_TASK + 1) == 2 * PER_TASK
    given, made = np.linspace(-20, 0, PLANE, dtype=np.float32), np.zeros(PLANE, np.float32)
    _exponentials(1, np.float32(0), (given.ctypes.data, made.ctypes.data))
    np.testing.assert_allclose(made, np.exp2(given), rtol=1e-5)


def test_what_a_gpu_is_given_runs_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GPU_SIDE", 32)
    model = DiffMa(**preset("S/7", 56)).eval().bfloat16()
    model.set_scan_backend("torch")
    with torch.inference_mode():
        assert module._steps(model, 2, 3)() == 3
    assert module._square_products(model.positions)() == module.GPU_PRODUCTS * 32**3


def test_where_matmuls_are_all_of_the_floor_the_share_of_their_rate_is_told() -> None:
    figures = module.benchmark_roofline("S/7", 1, 56, rounds=1)
    for part in ("decays", "activations"):
        del figures["counts"][part]
    assert f"share of the measured matmul rate: {figures['share']['matmuls']['median']:.0%}" in command.table(figures)


def test_devices_and_sizes_without_a_floor_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no roofline for mps"):
        module.benchmark_roofline(device="mps")
    assert main(["roofline", "--size", "L/3"], build_parser()) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["roofline", "--batch", "0"], build_parser()) == 2
    assert "at least one slice" in capsys.readouterr().err
