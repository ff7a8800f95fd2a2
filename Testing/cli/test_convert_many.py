"""``diffma convert`` over many volumes: kept where it stopped, and none ends the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from DiffMaCore.cli.main import main
from DiffMaCore.inference import convert
from Testing.images import head_like_ct, write_heads

pytestmark = pytest.mark.usefixtures("one_reader")

QUICK = ("--steps", "2", "--device", "cpu")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A folder of four heads."""
    return write_heads(tmp_path / "cohort", "head")


def _events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def test_a_second_start_keeps_what_is_there_and_makes_what_changed(
    cohort: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def convert(*words: object) -> tuple[int, list[dict[str, Any]]]:
        arguments = ["convert", cohort, tmp_path / "out", "--model", tiny_bundle, *QUICK, "--progress", "json", *words]
        status = main([str(word) for word in arguments])
        return status, _events(capsys)

    status, first = convert()
    assert status == 0 and not any(event.get("kept") for event in first)
    seconds = [event["seconds"] for event in _of(first, "result")]
    assert seconds[0]["loading"] > 0 and all(each["loading"] == 0 for each in seconds[1:])
    outputs = sorted((tmp_path / "out").iterdir())
    assert len(outputs) == 4
    contents = [path.read_bytes() for path in outputs]
    stamps = [path.stat().st_mtime_ns for path in outputs]

    sitk.WriteImage(head_like_ct() + 77, str(cohort / "head_1.mha"))
    outputs[2].unlink()
    status, second = convert()
    assert status == 0
    assert [bool(event.get("kept")) for event in _of(second, "result")] == [True, False, False, True]
    assert {event["output"] for event in _of(second, "result")} == set(map(str, outputs))
    assert any("made before with the same settings" in event["message"] for event in _of(second, "note"))
    assert [path.stat().st_mtime_ns == before for path, before in zip(outputs, stamps, strict=True)] == [
        True,
        False,
        False,
        True,
    ]
    assert outputs[2].read_bytes() == contents[2] and outputs[1].read_bytes() != contents[1]
    assert _of(second, "summary")[0]["converted"] == 4
    for words in (("--seed", 3), ("--slices", "1:4"), ("--samples", 2)):
        assert not any(event.get("kept") for event in _of(convert(*words)[1], "result")), words
    assert all(event.get("kept") for event in _of(convert("--samples", 2, "--batch-size", 1)[1], "result"))


@pytest.mark.parametrize("format", ["nii.gz", "nii", "nrrd", "mha", "dicom"])
def test_every_format_tells_how_it_was_made(
    format: str, cohort: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", cohort / "head_0.mha", tmp_path / "out", "--format", format, "--model", tiny_bundle, *QUICK]
    for kept in (False, True):
        assert main([*map(str, words), "--progress", "json"]) == 0
        (result,) = _of(_events(capsys), "result")
        assert bool(result.get("kept")) is kept


@pytest.mark.parametrize("other", ["a.mha", "A.mha", "./a.MHA"])
def test_two_volumes_with_one_output_are_refused(
    other: str, cohort: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"input,output\ncohort/head_0.mha,a.mha\ncohort/head_1.mha,{other}\n")
    assert main(["convert", str(table), str(tmp_path / "out"), "--model", str(tiny_bundle), *QUICK]) == 2
    assert "two volumes would be written to a.mha" in capsys.readouterr().err


def test_an_error_that_nobody_foresaw_costs_its_own_volume_alone(
    cohort: Path,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(path: Path, *rest: Any, **options: Any) -> Any:
        if path.name == "head_1.mha":
            raise TypeError("a defect")
        return read(path, *rest, **options)

    read = convert.read_volume
    monkeypatch.setattr(convert, "read_volume", broken)
    words = ["convert", cohort, tmp_path / "out", "--model", tiny_bundle, *QUICK, "--progress", "json"]
    assert main(list(map(str, words))) == 1
    events = _events(capsys)
    (summary,) = _of(events, "summary")
    assert summary["converted"] == 3 and len(list((tmp_path / "out").iterdir())) == 3
    (error,) = _of(events, "error")
    assert error["kind"] == "Unexpected" and "TypeError: a defect" in error["message"]
    assert error["input"] == summary["failed"][0]["input"] == str(cohort / "head_1.mha")
    assert "in broken" in caplog.text  # where it happened
