"""What is published is whole: the wheel in an environment of its own, and the repository's address."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import SimpleITK as sitk

from Testing.images import head_like_ct

ROOT = Path(__file__).resolve().parents[2]
SOMEWHERE = "/".join(("someone", "SlicerDiffMa"))
SOURCES = ("setup.py", "pyproject.toml", "MANIFEST.in", "DiffMaSlicer.json", "README.md", "LICENSE")


def run(*words: object, cwd: Path) -> str:
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, env=alone)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from the archive of the sources, as an index would hold both, with the repository's address set."""
    pytest.importorskip("build", reason="build is not installed; it is in the extra test")
    folder, sources = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("sources")
    shutil.copytree(ROOT / "DiffMaCore", sources / "DiffMaCore", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, sources)  # setuptools leaves its build folder beside the sources
    set_address(sources, "someone")
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(sources)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(folder.glob("*.whl"))


def set_address(sources: Path, owner: str) -> None:
    entry = sources / "DiffMaSlicer.json"
    entry.write_text(re.sub(r"github\.com/\w+/", f"github.com/{owner}/", entry.read_text(encoding="utf-8")))


def test_the_wheel_is_fit_for_an_index(wheel: Path) -> None:
    pytest.importorskip("twine", reason="twine is not installed; it is in the extra test")
    made = sorted(wheel.parent.iterdir())
    assert [path.suffix for path in made] == [".whl", ".gz"]
    assert run(sys.executable, "-m", "twine", "check", "--strict", *made, cwd=wheel.parent).count("PASSED") == 2


def test_what_an_index_shows_names_the_repository_and_has_no_relative_link(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        told = archive.read(name).decode()
    assert f"Project-URL: Source, https://github.com/{SOMEWHERE}\n" in told
    assert f"](https://raw.githubusercontent.com/{SOMEWHERE}/main/Screenshots/real_head.png)" in told
    assert f"](https://github.com/{SOMEWHERE}/blob/main/docs/slicer.md)" in told
    assert re.findall(r"\]\((?!https://)[^)]*\)", told) == []


def test_a_package_without_an_address_shows_no_placeholder(tmp_path: Path) -> None:
    (tmp_path / "DiffMaCore").mkdir()
    for name in (*SOURCES, "DiffMaCore/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    set_address(tmp_path, "OWNER")
    run(
        sys.executable, "-c", "import setuptools.build_meta as b; b.prepare_metadata_for_build_wheel('.')", cwd=tmp_path
    )
    told = next(tmp_path.glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    assert "# DiffMaSlicer\n" in told and "OWNER" not in told and "Project-URL" not in told


@pytest.mark.timeout(900)
def test_the_wheel_converts_a_ct_where_nothing_else_of_ours_is(wheel: Path, tmp_path: Path) -> None:
    """Its packages are those of this Python; the wheel itself is installed as an index would give it."""
    venv.create(tmp_path / "env")
    scripts = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python"]
    run(*pip, "install", "-q", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    (site,) = (tmp_path / "env").rglob("site-packages")
    libraries = [path for path in map(Path, sys.path) if path.name == "site-packages"]
    (site / "libraries.pth").write_text("\n".join(map(str, libraries)))  # lines of paths alone: no .pth of theirs runs
    code = "import DiffMaCore; from DiffMaCore.imaging.phantom import *; print(DiffMaCore.__file__, *bundled_heads())"
    place, *heads = run(scripts / "python", "-c", code, cwd=tmp_path).split()
    assert Path(place).is_relative_to(tmp_path) and heads
    sitk.WriteImage(head_like_ct(), str(tmp_path / "ct.nii"))
    run(scripts / "diffma", "convert", "ct.nii", "mr.nii", "--slices", "2:4", cwd=tmp_path)
    assert (tmp_path / "mr.nii").stat().st_size > 1000
    assert "torch" in run(scripts / "diffma", "packages", cwd=tmp_path)


_TEXT = {".py", ".md", ".txt", ".toml", ".yml", ".yaml", ".json", ".cff", ".ui", ".sh", ".ipynb"}


def addresses(text: str) -> list[str]:
    """Owners of repositories of this extension that a text names by an address."""
    return re.findall(r"(?:github|githubusercontent)\.com/([^/\s]+)/SlicerDiffMa", text)


def test_one_place_names_the_repositorys_address() -> None:
    """A placeholder, or the address itself, anywhere else would have to be changed there as well."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = {
        name: addresses((ROOT / name).read_text(encoding="utf-8"))
        for name in listed.split("\0")
        if Path(name).suffix in _TEXT and (ROOT / name).is_file()
    }
    assert {name: len(found) for name, found in told.items() if found} == {"DiffMaSlicer.json": 1}


def test_the_page_on_publishing_tells_how_to_set_the_address(tmp_path: Path) -> None:
    """Its command, run on a copy, leaves no placeholder."""
    shutil.copy(ROOT / "DiffMaSlicer.json", tmp_path)
    (command,) = re.findall(r"(?m)^ *(sed -i .*)$", (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8"))
    if shutil.which("sed") is None or sys.platform == "darwin":
        pytest.skip("needs GNU sed")
    subprocess.run(shlex.split(command), cwd=tmp_path, check=True)
    assert addresses((tmp_path / "DiffMaSlicer.json").read_text()) == ["YOUR_ACCOUNT"]


def test_the_placeholder_is_still_to_be_replaced() -> None:
    if addresses((ROOT / "DiffMaSlicer.json").read_text(encoding="utf-8")) == ["OWNER"]:
        pytest.skip("the repository's address is not set yet; docs/publishing.md tells how")
