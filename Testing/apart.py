"""Runs tests that use Slicer's libraries in a process of their own: in one with torch's they crash (two LLVMs)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

from Testing.conftest import ROOT

BUNDLES = {"plain": "tiny_bundle", "expecting": "expecting_bundle", "small": "tiny_bundle_with_small_decoder"}


def check_apart(files: Iterable[Path], folder: Path, request: pytest.FixtureRequest) -> None:
    """Run the tests of these files, with the bundles of this process; ``folder`` is empty."""
    for name, fixture in BUNDLES.items():
        shutil.copytree(request.getfixturevalue(fixture), folder / name / "tiny")
    # without the plugins of others, which take a second to load
    environment = {**os.environ, "DIFFMA_TEST_BUNDLES": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words = [str(file.relative_to(ROOT)) for file in files]
    command = [sys.executable, "-m", "pytest", "-p", "pytest_timeout", "--color=no", *words]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with request.getfixturevalue("capsys").disabled():
        print(f"\n{request.node.path.stem}: {run.stdout.strip().splitlines()[-1]}")
    assert run.returncode == 0, run.stdout[-20000:]


def module_tests(panel: bool) -> list[Path]:
    """The files of the module's tests: of the panel, or all others, and those of the stand-in for Slicer."""
    module, host = ROOT / "Testing" / "module", ROOT / "Testing" / "host"
    if missing := [name for name in ("slicer", "PySide6") if find_spec(name) is None]:
        if panel:
            pytest.skip(f"not installed: {', '.join(missing)}")
        return [module]  # which leaves out what needs them
    own = sorted(file for file in module.glob("test_*.py") if file.name.startswith("test_panel") == panel)
    return own if panel else [*own, *sorted(host.glob("test_*.py"))]
