"""Runs the tests that use Slicer's libraries in a process of their own: in one with torch's they crash (two LLVMs)."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from Testing.conftest import APART, ROOT


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("folder", APART)
def test_the_tests_apart_pass(folder, capsys):
    missing = [name for name in ("slicer", "PySide6") if find_spec(name) is None]
    if missing and folder == "host":
        pytest.skip(f"not installed: {', '.join(missing)}")
    command = [sys.executable, "-m", "pytest", str(Path("Testing") / folder), "--color=no"]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with capsys.disabled():
        print(f"\nTesting/{folder}: {run.stdout.strip().splitlines()[-1]}")
    assert run.returncode == 0, run.stdout[-20000:]
