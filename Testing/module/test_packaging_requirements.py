"""The packages that the module installs are those that the Python package asks for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def requirements() -> list[str]:
    text = (REPOSITORY / "DiffMaSlicer" / "Resources" / "requirements.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_requirements_are_the_package_dependencies(project: dict[str, Any]) -> None:
    assert requirements() == project["project"]["dependencies"]


def test_no_requirement_pins_or_caps_a_version() -> None:
    assert [line for line in requirements() if not re.fullmatch(r"[A-Za-z0-9_.-]+(>=[0-9.]+)?", line)] == []


def test_the_python_package_leaves_the_module_out(project: dict[str, Any]) -> None:
    assert project["tool"]["setuptools"]["packages"]["find"]["include"] == ["DiffMaCore*"]
