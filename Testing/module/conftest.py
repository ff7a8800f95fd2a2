"""The tests of the Slicer module: its library can be imported, and Slicer is the stand-in."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import warm_python

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = "DIFFMA_TEST_BUNDLES"
"""The variable that names a folder where they are made already."""
sys.path.insert(0, str(ROOT / "DiffMaSlicer"))
missing = [name for name in ("slicer", "PySide6") if find_spec(name) is None]

if missing:  # these wheels exist for some Pythons only
    collect_ignore_glob = ["test_logic*.py", "test_panel*.py", "test_review*.py", "test_child*.py", "test_rough.py"]
else:
    from Testing.slicer_host.fixtures import slicer_host  # noqa: F401
    from Testing.slicer_host.host import install

    install()


@pytest.fixture(scope="session")
def _bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles of the other tests, made by another process: torch and Slicer's libraries crash in one."""
    if made := os.environ.get(BUNDLES):
        return Path(made)
    root = tmp_path_factory.mktemp("bundles")
    code = """
import shutil, sys
from pathlib import Path
from Testing.conftest import add_small_decoder, make_tiny_bundle
plain, expecting, small = (Path(sys.argv[1], name, "tiny") for name in ("plain", "expecting", "small"))
plain.parent.mkdir()
expecting.parent.mkdir()
make_tiny_bundle(plain)
make_tiny_bundle(expecting, expects=True)
add_small_decoder(Path(shutil.copytree(plain, small)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(root)], cwd=ROOT, env=environment, check=True)
    return root


@pytest.fixture(scope="session")
def tiny_bundle(_bundles: Path) -> Path:
    """The one of ``Testing/conftest.py``."""
    return _bundles / "plain" / "tiny"


@pytest.fixture(scope="session")
def expecting_bundle(_bundles: Path) -> Path:
    """The one that gives the expected image as well."""
    return _bundles / "expecting" / "tiny"


@pytest.fixture(scope="session")
def tiny_bundle_with_small_decoder(_bundles: Path) -> Path:
    """The plain one with a small decoder."""
    return _bundles / "small" / "tiny"


@pytest.fixture(scope="session")
def _warm_python(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A folder with a PythonSlicer that is quick to start; None where processes cannot be forked so."""
    if not hasattr(os, "pidfd_open"):
        yield None
        return
    folder, program = tmp_path_factory.mktemp("warm"), Path(__file__).with_name("warm_python.py")
    (folder / "PythonSlicer").write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{program}" "$@"\n')
    (folder / "PythonSlicer").chmod(0o755)
    os.environ[warm_python.SOCKET] = str(folder / "socket")
    words = [sys.executable, str(program), "serve", str(folder / "socket"), str(tiny_bundle)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(words, stdin=subprocess.PIPE, env=environment) as server:
        yield folder
        if server.stdin:
            server.stdin.close()


@pytest.fixture
def warm(_warm_python: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slicer's own Python has converted already: for tests that are not about how a child starts and ends."""
    if _warm_python:
        monkeypatch.setenv("PATH", str(_warm_python), prepend=os.pathsep)


def pytest_report_header() -> str:
    """Says why the module's tests are not run where they cannot be."""
    return f"Slicer module's tests not collected: not installed: {', '.join(missing)}" if missing else ""
