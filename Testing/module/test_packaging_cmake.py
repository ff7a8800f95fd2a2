"""Slicer packages only the files that CMake lists: the lists must be the files on disk, in both directions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cmake_lists import REPOSITORY, cmake_lists, files_on_disk

PACKAGES = ("DiffMaSlicer", "DiffMaCore")


def listed(package: str) -> list[str]:
    lists = cmake_lists(REPOSITORY / package / "CMakeLists.txt")
    return lists["MODULE_PYTHON_SCRIPTS"] + lists["MODULE_PYTHON_RESOURCES"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_is_in_its_list_and_every_entry_is_a_file(package: str) -> None:
    on_disk = files_on_disk(REPOSITORY / package)
    names = set(listed(package))

    forgotten = sorted(name for name in on_disk - names if name != "README.md")
    assert not forgotten, f"add these to {package}/CMakeLists.txt, or Slicer will not install them"
    assert not sorted(names - on_disk), f"{package}/CMakeLists.txt lists files that do not exist"


@pytest.mark.parametrize("package", PACKAGES)
def test_scripts_and_resources_are_sorted_apart_and_listed_once(package: str) -> None:
    lists = cmake_lists(REPOSITORY / package / "CMakeLists.txt")

    assert all(name.endswith(".py") for name in lists["MODULE_PYTHON_SCRIPTS"])
    assert not any(name.endswith(".py") for name in lists["MODULE_PYTHON_RESOURCES"])
    assert len(listed(package)) == len(set(listed(package)))


def test_every_folder_with_python_files_is_a_package() -> None:
    for package in PACKAGES:
        scripts = {Path(name) for name in listed(package) if name.endswith(".py")}
        folders = {path.parent for path in scripts} - {Path()}
        assert not [folder for folder in folders if folder / "__init__.py" not in scripts]


def test_the_demo_bundle_travels_with_the_extension() -> None:
    names = listed("DiffMaCore")
    for part in ("denoiser", "embedder", "vae", "image_encoder"):
        assert f"data/demo/{part}/diffusion_pytorch_model.safetensors" in names
    assert "data/demo/manifest.json" in names


SLICER = """
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  message(STATUS "module ${MODULE_NAME}, subdir ${MODULE_WITH_SUBDIR}, not known: ${MODULE_UNPARSED_ARGUMENTS}.")
endmacro()
macro(slicer_add_python_unittest)
endmacro()
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/use.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/told.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/use.cmake")
"""
"""Of Slicer's own package what the extension uses; its macros have these names and arguments."""


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_the_extension_is_configured_with_both_packages_and_the_address_of_its_entry(tmp_path: Path) -> None:
    (tmp_path / "SlicerConfig.cmake").write_text(SLICER)
    (tmp_path / "use.cmake").touch()
    (tmp_path / "told.cmake").write_text('message(STATUS "home ${EXTENSION_HOMEPAGE}, icon ${EXTENSION_ICONURL}")')
    words = ["cmake", f"-DSlicer_DIR={tmp_path}", "-S", str(REPOSITORY), "-B", str(tmp_path / "build")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "module DiffMaSlicer, subdir FALSE, not known: ." in done.stdout
    assert "module DiffMaCore, subdir TRUE, not known: ." in done.stdout
    address = json.loads((REPOSITORY / "DiffMaSlicer.json").read_text(encoding="utf-8"))["scm_url"].removesuffix(".git")
    files = address.replace("//github", "//raw.githubusercontent")
    assert f"home {address}, icon {files}/main/DiffMaSlicer.png" in done.stdout


def test_only_the_module_itself_lies_where_slicer_looks_for_modules() -> None:
    at_the_top = [name for name in listed("DiffMaSlicer") if name.endswith(".py") and "/" not in name]
    assert at_the_top == ["DiffMaSlicer.py"]


def test_the_listed_files_alone_answer_the_command_line(tmp_path: Path) -> None:
    for name in listed("DiffMaCore"):
        target = tmp_path / "DiffMaCore" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "DiffMaCore" / name, target)

    code = "import sys, DiffMaCore.cli.main as m; print(m.__file__); sys.exit(m.main(['models', 'verify', 'demo']))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout.splitlines()[0]
