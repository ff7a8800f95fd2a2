"""Every error has a kind that a program can act on, and one sentence."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from DiffMaCore.cli.main import main
from DiffMaCore.errors import BackendError, ModelError, explain


def _convert_without(module: str, body: str, tmp_path: Path) -> list[dict[str, Any]]:
    """The events of a conversion where a module of this name, with this body, stands before the installed one."""
    folder = tmp_path / "in_front"
    folder.mkdir()
    (folder / f"{module}.py").write_text(body)
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from DiffMaCore.cli.main import main; sys.exit(main())"
    ct = tmp_path / "ct.nii"
    ct.write_bytes(b"not read")
    words = [sys.executable, "-c", code, "convert", ct, tmp_path / "mr.nii", "--progress", "json"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("module", "package"), [("torch", "torch"), ("diffusers", "diffusers"), ("pydicom", "pydicom"), ("numpy", "numpy")]
)
def test_a_missing_package_is_named_as_pip_calls_it_after_hello(tmp_path: Path, module: str, package: str) -> None:
    body = f"raise ModuleNotFoundError(\"No module named '{module}'\", name='{module}')"
    events = _convert_without(module, body, tmp_path)
    assert events[0]["event"] == "hello"
    assert (events[-1]["event"], events[-1]["kind"], events[-1]["package"]) == ("error", "MissingPackage", package)
    assert f"pip install {package}" in events[-1]["message"]


@pytest.mark.parametrize("error", ["OSError('[WinError 126] c10.dll')", "ImportError('numpy is too new')"])
def test_a_package_that_is_broken_is_named_too(tmp_path: Path, error: str) -> None:
    last = _convert_without("torch", f"raise {error}", tmp_path)[-1]
    assert (last["kind"], last["package"]) == ("MissingPackage", "torch")
    assert "cannot be imported" in last["message"]


def test_the_pip_name_differs_from_the_module_where_it_must() -> None:
    failure = explain(ModuleNotFoundError("No module named 'open_clip'", name="open_clip.factory"))
    assert failure.package == "open_clip_torch"
    wrapped = RuntimeError("Failed to import diffusers")
    wrapped.__cause__ = ModuleNotFoundError("No module named 'PIL'", name="PIL")
    assert explain(wrapped).package == "pillow"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("Exception thrown in SimpleITK: Failed to allocate memory for image."),
        RuntimeError("sitk::ERROR: std::bad_alloc"),
    ],
)
def test_out_of_memory_is_told_with_its_remedy(error: Exception) -> None:
    failure = explain(error)
    assert failure.kind == "OutOfMemory" and "--slices A:B" in failure.message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_the_file_system_refuses_is_told_with_the_place(number: int) -> None:
    failure = explain(OSError(number, os.strerror(number), "/data/run.json"))
    assert failure.kind == "OutputError" and not failure.trace
    assert failure.message.startswith(f"/data/run.json cannot be used ({os.strerror(number)}); free some room")


def test_known_errors_keep_their_kind_and_others_are_unexpected() -> None:
    assert explain(ModelError("damaged")).kind == "ModelError"
    cause = ModuleNotFoundError("No module named 'mamba_ssm'", name="mamba_ssm")
    unavailable = BackendError("mamba-ssm cannot run here")
    unavailable.__cause__ = cause
    assert explain(unavailable).kind == "BackendError"
    assert explain(KeyboardInterrupt()).kind == "Cancelled"
    failure = explain(ZeroDivisionError("division by zero\nmore"))
    assert failure.kind == "Unexpected" and "(ZeroDivisionError: division by zero)" in failure.message


def test_an_unexpected_error_is_one_event_and_its_traceback_goes_to_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(path: Path) -> None:
        print("noise that is no event")
        raise ValueError("a bug")

    monkeypatch.setattr("DiffMaCore.packages.check_packages", broken)
    assert main(["packages", "--requirements", str(tmp_path), "--progress", "json"]) == 2
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["hello", "error"]
    assert events[1]["kind"] == "Unexpected" and "Traceback" in err and "noise" in err
