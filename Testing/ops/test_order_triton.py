"""The spiral scan's Triton form without a GPU: interpreted, against plain torch in float64."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton has no package for this system")


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "Testing.ops.spiral_interpreted"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("scan_order", ["spiral", "released"])
def test_output_and_all_gradients_agree_with_float64(report: dict[str, Any], scan_order: str) -> None:
    assert report[scan_order] < 1e-4


def test_half_precision_is_as_near_as_in_plain_torch(report: dict[str, Any]) -> None:
    assert report["half type"] == "torch.bfloat16"
    assert report["half"] < 3 * report["half in torch"]


def test_inference_gives_the_numbers_of_training(report: dict[str, Any]) -> None:
    assert report["inference"] == 0


def test_inference_in_bfloat16_errs_no_more_than_its_rounding(report: dict[str, Any]) -> None:
    assert report["bfloat16 type"] == "torch.bfloat16"
    # Triton's interpreter cuts what it stores where a GPU rounds: three stores, each twice as wrong and to one side
    assert 1e-4 < report["bfloat16"] < 6 * report["bfloat16 in torch"]
