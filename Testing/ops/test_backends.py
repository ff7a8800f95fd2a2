"""The choice of a back end: automatic, by name, logged, and never silently another one."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import subprocess
import sys

import numba
import pytest
import torch

import DiffMaCore
from DiffMaCore.errors import BackendError
from DiffMaCore.ops.scan import available_backends, backends, choose_backend, selective_scan
from Testing.ops.problems import make_problem


def _python(program: str, **environment: str) -> str:
    """Output of a program in a fresh interpreter."""
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_package_exports_the_function_whatever_was_imported_before() -> None:
    importlib.import_module("DiffMaCore.ops.scan.numba_scan")
    assert DiffMaCore.selective_scan is selective_scan
    assert callable(DiffMaCore.selective_scan)


def test_numba_is_taken_on_a_cpu() -> None:
    assert available_backends("cpu")["numba"] is None
    assert choose_backend("auto", "cpu") == "numba"


def test_plain_torch_runs_on_every_device() -> None:
    assert all(available_backends(device)["torch"] is None for device in ("cpu", "cuda", "mps"))
    assert choose_backend("auto", "mps") == "torch"


@pytest.mark.parametrize(
    ("name", "device"),
    [("mamba-ssm", "cpu"), ("triton", "cpu"), ("triton", "mps"), ("numba", "cuda"), ("numba", "mps")],
)
def test_a_named_back_end_that_cannot_run_is_an_error_in_one_sentence(name: str, device: str) -> None:
    reason = available_backends(device)[name]
    assert reason is not None
    with pytest.raises(BackendError) as caught:
        choose_backend(name, device)
    assert reason in str(caught.value)
    assert "choose 'auto'" in str(caught.value)


def test_an_unavailable_back_end_is_not_replaced_in_a_scan() -> None:
    with pytest.raises(BackendError, match="mamba-ssm"):
        selective_scan(**make_problem(1, 4, 2, 2), backend="mamba-ssm")


def test_a_back_end_without_float64_is_not_taken_for_it() -> None:
    with pytest.raises(BackendError, match="float32, not in float64"):
        choose_backend("mamba-ssm", "cuda", torch.float64)
    assert choose_backend("auto", "cuda", torch.float64) == "torch"


def test_an_unknown_back_end_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BackendError, match=r"'nunba'.*auto, triton, mamba-ssm, numba, torch"):
        choose_backend("nunba", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_its_back_ends_are_unavailable_and_say_so() -> None:
    assert available_backends("cuda")["triton"] == "no CUDA device is available"
    assert available_backends("cuda")["mamba-ssm"] == "no CUDA device is available"
    assert choose_backend("auto", "cuda") == "torch"


def test_the_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    backends._choose.cache_clear()
    problem = make_problem(1, 4, 2, 2)
    with caplog.at_level(logging.INFO, logger="DiffMaCore"):
        selective_scan(**problem)
        selective_scan(**problem)
    assert [record.getMessage() for record in caplog.records] == ["selective scan on cpu: numba"]


def test_without_numba_plain_torch_is_chosen_and_the_reason_listed() -> None:
    output = _python(
        "import sys; sys.modules['numba'] = None\n"
        "import torch\n"
        "from DiffMaCore import selective_scan\n"
        "from DiffMaCore.ops.scan import available_backends, choose_backend\n"
        "x = torch.ones(1, 2, 3)\n"
        "selective_scan(x, x, -x[0, :, :1], x[:, :1], x[:, :1])\n"
        "print(choose_backend('auto', 'cpu'), '|', available_backends('cpu')['numba'])\n"
    )
    assert output.startswith("torch | Numba cannot be used (")


def test_importing_the_scan_imports_no_back_end() -> None:
    program = "import sys, DiffMaCore.ops.scan; print({'numba', 'mamba_ssm', 'triton'} & set(sys.modules))"
    assert _python(program).strip() == "set()"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="an x86 processor is named")
def test_the_kernels_are_right_on_a_processor_without_avx512() -> None:
    output = _python(
        "from Testing.ops.problems import make_problem, worst_error\n"
        "from DiffMaCore.ops.scan.numba_lanes import REGISTER_BYTES\n"
        "print(REGISTER_BYTES, worst_error(make_problem(2, 40, 35, 8), 'numba', True) < 1e-5)\n",
        NUMBA_CPU_NAME="haswell",
        NUMBA_CPU_FEATURES="",
    )
    assert output.split() == ["32", "True"]


@pytest.mark.skipif(not hasattr(numba.config, "CACHE_LOCATOR_CLASSES"), reason="this Numba cannot be told so")
def test_the_kernels_work_where_no_compiled_code_can_be_kept() -> None:
    output = _python(
        "from DiffMaCore.ops.scan import numba_scan\n"
        "from numba.core.caching import NullCache\n"
        "print(isinstance(numba_scan._forward._cache, NullCache))\n",
        NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator",
        NUMBA_CACHE_DIR="",
    )
    assert output.strip() == "True"
