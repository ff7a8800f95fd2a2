"""Names that only a stand-in accepts fail in Slicer: every one is held against those looked up in its sources."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from slicer_names import names_in_python, names_in_ui, own_names

MODULE = Path(__file__).resolve().parents[2] / "DiffMaSlicer"
PYTHON, UI = sorted(MODULE.rglob("*.py")), sorted(MODULE.rglob("*.ui"))
SINCE_5_11 = {"slicer.packaging", "slicer.util.launchConsoleProcess"}


@pytest.fixture(scope="module")
def looked_up() -> dict[str, str]:
    """Name to place, from slicer_names.txt."""
    lines = Path(__file__).with_name("slicer_names.txt").read_text(encoding="utf-8").splitlines()
    pairs = [re.split(r"\s{2,}", line, maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs)
    assert len({name for name, _place in pairs}) == len(pairs)
    return {name: place for name, place in pairs}


@pytest.fixture(scope="module")
def used() -> dict[str, str]:
    """Name to the file and line that uses it."""
    return names_in_python(PYTHON, own_names(PYTHON, UI)) | names_in_ui(UI)


def test_every_name_was_looked_up_in_the_sources(used: dict[str, str], looked_up: dict[str, str]) -> None:
    unknown = [f"{name} ({place})" for name, place in sorted(used.items()) if name not in looked_up]
    assert not unknown, "look these up in the sources of Slicer 5.10, CTK and Qt, then add them to slicer_names.txt"


def test_no_name_is_listed_that_nothing_uses(used: dict[str, str], looked_up: dict[str, str]) -> None:
    assert sorted(looked_up.keys() - used.keys()) == []


def test_every_place_names_its_project(looked_up: dict[str, str]) -> None:
    assert [
        place for place in looked_up.values() if place.split()[0] not in ("Slicer", "CTK", "Qt", "PythonQt", "VTK")
    ] == []


def test_nothing_newer_than_slicer_5_10_is_used(used: dict[str, str]) -> None:
    assert [name for name in used if any(name.startswith(new) for new in SINCE_5_11)] == []


def test_vtk_and_mrml_classes_have_the_members_used(used: dict[str, str]) -> None:
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    vtk = pytest.importorskip("vtk")
    missing = []
    for name in used:
        root, _, rest = name.partition(".")
        owner, _, member = rest.partition(".")
        if root in ("slicer", "vtk") and owner.startswith("vtk"):
            known = getattr(slicer, owner, None) or getattr(vtk, owner, None)
            if known is None or (member and not hasattr(known, member)):
                missing.append(name)
    assert missing == []


def test_no_module_imports_torch_or_the_core_into_slicer() -> None:
    for path in PYTHON:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in imported} & {"torch", "torchvision", "diffusers", "DiffMaCore"}, path


def test_collector_sees_chains_signals_imports_and_strange_attributes(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text(
        "import qt\nfrom slicer.util import loadUI\n"
        "class Panel:\n"
        "    def setup(self):\n"
        "        qt.QTimer.singleShot(0, self.setup)\n"
        "        self.button.connect('clicked()', self.setup)\n"
        "        self.button.noSuchThing()\n"
    )

    names = names_in_python([code], own_names([code], []) | {"button", "connect"})

    assert names.keys() == {
        "qt.QTimer.singleShot",
        "slicer.util.loadUI",
        "signal clicked()",
        "attribute noSuchThing",
    }
