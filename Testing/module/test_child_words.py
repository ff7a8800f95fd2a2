"""What the child says is parsed without trust, and how it ended is explained with a remedy."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from DiffMaSlicerLib.child import failures
from DiffMaSlicerLib.child.events import parse
from DiffMaSlicerLib.child.interpreter import core_folder, default_interpreter, environment
from DiffMaSlicerLib.child.packages import name_of, read_requirements, size_sentence, torch_commands


@pytest.mark.parametrize("line", ["", "hello", "{", "[1]", '{"a": 1}', '{"event": 3}', "{" * 100_000, "{}"])
def test_what_is_no_event_is_none(line):
    assert parse(line) is None


def test_facts_of_another_type_read_as_if_they_were_not_there():
    event = parse('{"event": "slice", "slice": "3", "axis": true, "eta": NaN, "step": -1, "range": [0, null]}')
    assert event is not None and event.name == "slice"
    assert (event.count("slice"), event.count("axis"), event.number("eta"), event.count("step")) == (None,) * 4
    assert event.numbers("range", 2) is None and event.text("axis") == ""


def test_facts_are_read_as_what_they_are():
    event = parse('{"event": "slice", "slice": 3, "eta": 1.5, "range": [0, 1000], "values": "a.npy"}')
    assert event is not None
    assert (event.count("slice"), event.number("eta"), event.text("values")) == (3, 1.5, "a.npy")
    assert event.numbers("range", 2) == (0.0, 1000.0)


@pytest.mark.parametrize(
    ("code", "tail", "kind", "word"),
    [
        (-9, [], "Killed", "memory"),
        (-11, ["boom"], "Crashed", "signal 11"),
        (0xC0000005, [], "Crashed", "forbidden memory access"),
        (1, ["numpy.exceptions.MemoryError: no"], "OutOfMemory", "out of memory"),
        (1, ["ModuleNotFoundError: No module named 'torch'"], "MissingPackage", "torch"),
        (3, ["strange words"], "NoResult", "strange words"),
        (0, [], "NoResult", "without a result"),
    ],
)
def test_every_way_to_end_has_a_cause_and_a_remedy(code, tail, kind, word):
    failure = failures.ended(code, tail, answered=True, path="/usr/bin/python")
    assert failure.kind == kind and word in failure.message and failure.remedy.endswith(".")


def test_a_program_that_is_no_python_is_named():
    failure = failures.ended(2, ["unknown option -m"], answered=False, path="/bin/tar")
    assert failure.kind == "Interpreter" and "/bin/tar" in failure.message and "unknown option" in failure.message


def test_another_interpreter_gets_nothing_of_slicers_python(tmp_path):
    ours = {"PATH": "/slicer", "PYTHONHOME": "/slicer", "PYTHONPATH": "/slicer/lib", "LD_LIBRARY_PATH": "/slicer/lib"}
    clean = {"PATH": "/usr/bin", "PYTHONHOME": "/slicer"}
    variables = environment(False, tmp_path, ours, clean)
    assert variables["PATH"] == "/usr/bin" and variables["PYTHONPATH"] == str(tmp_path)
    assert "PYTHONHOME" not in variables and "LD_LIBRARY_PATH" not in variables
    own = environment(True, tmp_path, ours, clean, models_home="/models")
    assert own["PYTHONPATH"] == os.pathsep.join([str(tmp_path), "/slicer/lib"])
    assert own["PYTHONHOME"] == "/slicer" and own["DIFFMA_HOME"] == "/models"


def test_the_core_is_found_beside_the_module_first_and_then_above_it(tmp_path):
    library = tmp_path / "module" / "DiffMaSlicerLib"
    for folder in (tmp_path, tmp_path / "module"):
        (folder / "DiffMaCore").mkdir(parents=True)
        (folder / "DiffMaCore" / "__init__.py").touch()
    assert core_folder(library) == tmp_path / "module"
    (tmp_path / "module" / "DiffMaCore" / "__init__.py").unlink()
    assert core_folder(library) == tmp_path
    (tmp_path / "DiffMaCore" / "__init__.py").unlink()
    with pytest.raises(FileNotFoundError, match="install the extension again"):
        core_folder(library)


def test_there_is_always_an_interpreter():
    assert os.access(default_interpreter(), os.X_OK)


def test_the_dialogs_size_names_what_is_missing(tmp_path):
    (tmp_path / "r.txt").write_text("# words\ntorch>=2.6  # more\n\nnumpy\n")
    assert read_requirements(tmp_path / "r.txt") == ["torch>=2.6", "numpy"]
    if sys.platform != "darwin":
        (_, choosing) = torch_commands("python", tmp_path / "r.txt")
        assert choosing[-2:] == ["install", "torch>=2.6"], "no older release is tried"
    requirements = Path(__file__).resolve().parents[2] / "DiffMaSlicer" / "Resources" / "requirements.txt"
    assert size_sentence([name_of(line) for line in read_requirements(requirements)])  # every one has a size
    assert "Nothing" in size_sentence([]) and "MB" in size_sentence(["numpy"])
