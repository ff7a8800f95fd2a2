"""``diffma export-dicom``: a derived series that says what it is, and tells no more than it must."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
import SimpleITK as sitk

from DiffMaCore.cli.check import PROVENANCE
from DiffMaCore.cli.main import main
from DiffMaCore.imaging.reading import read_volume
from DiffMaCore.imaging.writing import write_volume
from Testing.imaging.dicom_files import head_hu, write_series

Export = Callable[..., dict[str, Any]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_series(tmp_path / "Doe_Jane", head_hu())


@pytest.fixture
def volume(source: Path, tmp_path: Path) -> Path:
    """A file that stands for a synthetic MRI of the CT."""
    image = read_volume(source).image
    write_volume(sitk.Abs(image), tmp_path / "mr.nii", like=image)
    return tmp_path / "mr.nii"


@pytest.fixture
def export(volume: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Export:
    def run(*words: object) -> dict[str, Any]:
        main(["export-dicom", str(volume), str(tmp_path / "out"), *map(str, words), "--progress", "json"])
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()][-1]

    return run


def test_the_series_joins_the_cts_study_and_says_how_it_was_made(export: Export, source: Path, tmp_path: Path) -> None:
    made = {"model": "demo", "seed": 5, "input": "/home/Doe_Jane/ct.nii", "event": "result"}
    (tmp_path / "made.json").write_text(json.dumps(made))
    facts = export("--source", source, "--metadata", tmp_path / "made.json")
    assert facts == {"event": "result", "folder": str(tmp_path / "out"), "files": 8, "anonymous": False}
    first = pydicom.dcmread(sorted((tmp_path / "out").glob("*.dcm"))[0])
    ct = pydicom.dcmread(sorted(source.rglob("*"))[0])
    assert first.StudyInstanceUID == ct.StudyInstanceUID and first.PatientID == ct.PatientID
    assert first.ImageType[0] == "DERIVED" and first.SyntheticData == "YES" and len(first.SourceImageSequence) == 1
    assert "seed 5" in first.DerivationDescription and "Doe" not in first.DerivationDescription


def test_the_source_can_be_a_list_of_files(export: Export, source: Path, tmp_path: Path) -> None:
    files = sorted(path for path in source.rglob("*") if path.is_file())
    (tmp_path / "files.txt").write_text("\n".join(map(str, files)), encoding="utf-8")
    assert not export("--source", tmp_path / "files.txt")["anonymous"]
    (tmp_path / "files.txt").write_text(f"{files[0]}\n{tmp_path / 'absent.dcm'}\n")
    assert export("--source", tmp_path / "files.txt")["kind"] == "InputError"


def test_without_a_source_it_is_anonymous(export: Export, tmp_path: Path) -> None:
    assert export()["anonymous"]
    assert read_volume(tmp_path / "out", modality=None).image.GetSize() == (32, 32, 8)


def test_another_patients_ct_is_refused(export: Export, tmp_path: Path) -> None:
    elsewhere = write_series(tmp_path / "other", head_hu(), step=(0, 0, 9.0))
    for path in sorted(elsewhere.rglob("*")):
        data = pydicom.dcmread(path)
        data.ImagePositionPatient = [x + 500 for x in data.ImagePositionPatient]
        data.save_as(path)
    last = export("--source", elsewhere)
    assert last["kind"] == "InputError" and "does not lie where" in last["message"]
    assert not (tmp_path / "out").exists()


def test_every_word_of_provenance_may_be_written(tiny_bundle: Path) -> None:
    from DiffMaCore import DiffMaPipeline
    from DiffMaCore.inference.batches import Sampling
    from DiffMaCore.inference.pipeline import provenance

    sampling = Sampling("sample", steps=1, scheduler=None, seed=0, samples=1, decoder="full")
    made = provenance(DiffMaPipeline.from_pretrained(tiny_bundle), sampling, batch=1)
    assert {*made, "training_words", "agreement_words"} == set(PROVENANCE)
