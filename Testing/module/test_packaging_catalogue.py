"""The Extensions Index entry follows its schema (1.0.2) and says the same as CMakeLists.txt."""

from __future__ import annotations

import functools
import json
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest
from cmake_lists import REPOSITORY

PROPERTIES = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "dicom_support_rule": str,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}
LIMIT = 100 * 1024 * 1024  # bytes of a checked-out repository


def entry() -> dict:
    return json.loads((REPOSITORY / "DiffMaSlicer.json").read_text(encoding="utf-8"))


@functools.cache
def top() -> dict[str, str]:
    """The variables that CMake itself makes of the lines before Slicer is looked for."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("CMake is not installed")
    before = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8").split("find_package")[0]
    names = re.findall(r"(?:set\(|string\([^)]*)(EXTENSION_\w+)", before)
    lines = [re.sub(r"(?m)^(project|cmake_minimum_required)\(.*$", "", before)]
    lines += [f'message("{name}=${{{name}}}")' for name in names]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "CMakeLists.txt"
        script.write_text("\n".join(lines), encoding="utf-8")
        shutil.copy(REPOSITORY / "DiffMaSlicer.json", folder)
        done = subprocess.run([cmake, "-P", str(script)], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stderr.splitlines() if "=" in line)


def png_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n", path
    return struct.unpack(">II", header[16:24])


def test_entry_has_only_known_properties_of_the_right_type() -> None:
    assert {"$schema", "category", "scm_url"} <= entry().keys() <= PROPERTIES.keys()
    assert all(isinstance(value, PROPERTIES[name]) for name, value in entry().items())
    assert entry()["$schema"].endswith("/slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert 1 <= entry()["tier"] <= 5


def test_entry_has_unix_line_ends() -> None:
    assert b"\r" not in (REPOSITORY / "DiffMaSlicer.json").read_bytes()


def test_repository_is_named_for_slicer_and_the_extension_is_not() -> None:
    assert entry()["scm_url"].startswith("https://")
    assert Path(entry()["scm_url"]).stem.startswith("Slicer")
    assert "project(DiffMaSlicer)" in (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")


def test_entry_and_cmake_name_one_repository_and_the_same_dependencies() -> None:
    assert top()["EXTENSION_HOMEPAGE"] == entry()["scm_url"].removesuffix(".git")
    depends = [name for name in top()["EXTENSION_DEPENDS"].split() if name != "NA"]
    assert depends == entry()["build_dependencies"]


def test_icon_and_screenshots_are_pictures_of_this_repository() -> None:
    address = top()["EXTENSION_HOMEPAGE"].replace("github.com", "raw.githubusercontent.com") + "/main/"
    pictures = [top()["EXTENSION_ICONURL"], *top()["EXTENSION_SCREENSHOTURLS"].split()]
    assert len(pictures) > 1
    for picture in pictures:
        assert picture.startswith(address)
        assert min(png_size(REPOSITORY / picture.removeprefix(address))) >= 128


def test_description_says_research_only_and_holds_no_list_separator() -> None:
    description = top()["EXTENSION_DESCRIPTION"]
    assert "research only" in description.lower()
    assert ";" not in description


def test_module_icon_is_the_extension_icon() -> None:
    icon = REPOSITORY / "DiffMaSlicer" / "Resources" / "Icons" / "DiffMaSlicer.png"
    assert icon.read_bytes() == (REPOSITORY / "DiffMaSlicer.png").read_bytes()
    assert png_size(icon) == (128, 128)


def test_licence_and_readme_are_where_cmake_says() -> None:
    for name in ("EXTENSION_LICENSE_FILE", "EXTENSION_README_FILE"):
        assert (REPOSITORY / Path(top()[name]).name).is_file()


def test_repository_stays_under_the_limit_of_the_index() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("only a clone tells what the repository holds, and what `diffma demo` put beside it")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout
    contents = [(REPOSITORY / name).read_bytes() for name in listed.split("\0") if name]
    assert len(contents) > 500
    # a clone of the newest commit holds the files, and git's own copy of every content
    assert sum(map(len, contents)) + sum(map(len, set(contents))) < LIMIT
