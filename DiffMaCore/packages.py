"""A requirements file in, which of its packages this Python has out; none of them is imported."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from DiffMaCore.errors import InputError


def check_packages(requirements: Path | None = None) -> dict[str, Any]:
    """What ``requirements`` asks for, and what is installed; None: what the installed DiffMaCore says it needs.

    Returns python, executable, packages (name, required, installed or None, ok) and ok, which says that nothing is
    missing or too old. Lines that are for another platform or Python are left out. Raises InputError where the file
    cannot be read, or a line of it is no requirement.
    """
    try:
        lines = _own() if requirements is None else requirements.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{requirements} cannot be read ({error}); give a requirements file") from None
    texts = (line.partition(" #")[0].strip() for line in lines)
    packages = [_check(text) for text in texts if text and not text.startswith(("#", "-"))]
    found = [package for package in packages if package is not None]
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "packages": found,
        "ok": all(package["ok"] for package in found),
    }


def _own() -> list[str]:
    try:
        return [line for line in metadata.requires("DiffMaCore") or [] if "extra ==" not in line]
    except metadata.PackageNotFoundError:
        raise InputError(
            "DiffMaCore runs from its folder and is not installed; give a file by --requirements"
        ) from None


def _check(text: str) -> dict[str, Any] | None:
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:  # pip brings its own
        from pip._vendor.packaging.requirements import InvalidRequirement, Requirement  # type: ignore[assignment]

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise InputError(f"{text!r} is no requirement; write a package and a version, such as torch>=2.6") from None
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    installed = installed_version(requirement.name)
    ok = installed is not None and requirement.specifier.contains(installed, prereleases=True)
    required = str(requirement.specifier)
    return {"name": requirement.name, "required": required, "installed": installed, "ok": ok}


def installed_version(package: str) -> str | None:
    """The installed version of a package by its pip name; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
