"""The Triton kernels of both scans without a GPU: interpreted against float64, and compiled for GPUs elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton has no package for this system")


def _program(module: str, **environment: str) -> dict[str, Any]:
    """What a program of this folder prints, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", module],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    if tuple(map(int, version("triton").split(".")[:2])) < (3, 3):
        pytest.skip("the interpreter of Triton 3.2 and older has no type of one bit, which these kernels' bounds are")
    return _program("Testing.ops.triton_interpreted", TRITON_INTERPRET="1")


@pytest.fixture(scope="module")
def spiral(interpreted: dict[str, Any]) -> dict[str, Any]:
    return interpreted["spiral"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cache = str(tmp_path_factory.mktemp("triton"))
    return _program("Testing.ops.triton_compiled", TRITON_INTERPRET="0", TRITON_CACHE_DIR=cache)


@pytest.mark.parametrize("shape", ["tokens", "groups", "constant B", "constant C", "no options"])
def test_values_and_all_gradients_agree_with_float64(interpreted: dict[str, Any], shape: str) -> None:
    assert interpreted["errors"][shape] < 1e-4


def test_half_precision_comes_back_as_half_precision_with_a_full_state(interpreted: dict[str, Any]) -> None:
    assert interpreted["types"] == ["torch.bfloat16", "torch.float32"]
    assert interpreted["errors"]["half"] < 0.02


def test_softplus_keeps_five_digits_even_where_it_vanishes(interpreted: dict[str, Any]) -> None:
    assert interpreted["errors"]["softplus"] < 1e-5


def test_a_damaged_number_spoils_its_own_channel_from_there_on_and_nothing_else(interpreted: dict[str, Any]) -> None:
    assert interpreted["damaged"] == [[0, 3, token] for token in range(2, 6)]


def test_the_interpreter_is_never_chosen_by_itself(interpreted: dict[str, Any]) -> None:
    assert interpreted["reason"] is None
    assert interpreted["auto"] == "numba"


@pytest.mark.parametrize("scan_order", ["spiral", "released"])
def test_output_and_all_gradients_agree_with_float64(spiral: dict[str, Any], scan_order: str) -> None:
    assert spiral[scan_order] < 1e-4


def test_half_precision_is_as_near_as_in_plain_torch(spiral: dict[str, Any]) -> None:
    assert spiral["half type"] == "torch.bfloat16"
    assert spiral["half"] < 3 * spiral["half in torch"]


def test_inference_gives_the_numbers_of_training(spiral: dict[str, Any]) -> None:
    assert spiral["inference"] == 0


def test_inference_in_bfloat16_errs_no_more_than_its_rounding(spiral: dict[str, Any]) -> None:
    assert spiral["bfloat16 type"] == "torch.bfloat16"
    # Triton's interpreter cuts what it stores where a GPU rounds: three stores, each twice as wrong and to one side
    assert 1e-4 < spiral["bfloat16"] < 6 * spiral["bfloat16 in torch"]


@pytest.mark.slow
def test_every_kernel_compiles_for_a_gpu_that_is_not_here(compiled: dict[str, Any]) -> None:
    assert len(compiled) == 7


@pytest.mark.slow
def test_no_recurrence_needs_a_shuffle(compiled: dict[str, Any]) -> None:
    """Only the sums of dB and dC over a warp's channels do: 16 tokens, log2(32) steps, two of them."""
    assert compiled["scan_forward"]["shuffles"] == 0
    assert compiled["scan_backward"]["shuffles"] <= 2 * 16 * 5
    assert compiled["scan_backward"]["shared"] <= 1024
