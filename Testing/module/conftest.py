"""The tests of the Slicer module: its library can be imported, and Slicer is the stand-in."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "DiffMaSlicer"))
missing = [name for name in ("slicer", "PySide6") if find_spec(name) is None]

if missing:  # these wheels exist for some Pythons only
    collect_ignore_glob = ["test_logic*.py", "test_panel*.py", "test_review*.py", "test_child*.py", "test_rough.py"]
else:
    from Testing.slicer_host.fixtures import slicer_host  # noqa: F401
    from Testing.slicer_host.host import install

    install()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the other tests, made by another process: torch and Slicer's libraries crash in one."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    _elsewhere("make_tiny_bundle", folder)
    return folder


@pytest.fixture(scope="session")
def expecting_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one that gives the expected image as well."""
    folder = tmp_path_factory.mktemp("expecting_bundles") / "tiny"
    _elsewhere("make_tiny_bundle", folder, expects=True)
    return folder


@pytest.fixture(scope="session")
def tiny_bundle_with_small_decoder(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle with a small decoder."""
    folder = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("bundles") / "tiny"))
    _elsewhere("add_small_decoder", folder)
    return folder


def _elsewhere(make: str, folder: Path, **options: bool) -> None:
    """Call a function of the other tests' conftest in another process."""
    code = f"import sys, pathlib; from Testing.conftest import {make}; {make}(pathlib.Path(sys.argv[1]), **{options})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, env=environment, check=True)


def pytest_report_header() -> str:
    """Says why the module's tests are not run where they cannot be."""
    return f"Slicer module's tests not collected: not installed: {', '.join(missing)}" if missing else ""
