"""``diffma check-result``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import SimpleITK as sitk

from DiffMaCore.cli.main import main
from DiffMaCore.imaging.writing import write_volume, written_modality
from Testing.images import head_images


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ct.nii.gz and a T2 as ``diffma convert`` writes it, in two formats."""
    folder = tmp_path_factory.mktemp("head")
    ct, mr = head_images("t2")
    sitk.WriteImage(ct, str(folder / "ct.nii.gz"))
    for extension in ("nii.gz", "nrrd"):
        write_volume(mr, folder / f"mr.{extension}", like=ct, metadata={"target_modality": "MR T2", "model": "any"})
    sitk.WriteImage(mr[1:], str(folder / "other.nii.gz"))
    return folder


def test_a_person_reads_whether_the_mr_follows(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-result", str(files / "ct.nii.gz"), str(files / "mr.nrrd")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("CSF agrees by ") and lines[0].endswith(": the MR follows the CT")
    assert "contrast T2" in lines  # as the file says


def test_what_does_not_follow_is_no_failure(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check-result", str(files / "ct.nii.gz"), str(files / "mr.nii.gz"), "--contrast", "t1", "--json"]
    assert main(words) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["verdict"] == "the MR does NOT follow the CT" and facts["words"].endswith(facts["verdict"])
    assert facts["contrast"] == "t1" and facts["csf_dice"] < 0.5


def test_a_program_gets_a_result_event(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check-result", str(files / "ct.nii.gz"), str(files / "mr.nii.gz"), "--progress", "json"]
    assert main(words) == 0
    result = [json.loads(line) for line in capsys.readouterr().out.splitlines()][-1]
    assert result["event"] == "result" and result["contrast"] == "t2" and result["csf_dice"] > 0.9


def test_another_grid_is_refused_in_one_sentence(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-result", str(files / "ct.nii.gz"), str(files / "other.nii.gz")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("diffma: the CT (80 x 98 x 86 voxels)") and "one grid" in error


def test_the_modality_is_read_from_every_format(files: Path, tmp_path: Path) -> None:
    assert written_modality(files / "mr.nii.gz") == written_modality(files / "mr.nrrd") == "MR T2"
    assert written_modality(files / "ct.nii.gz") is None
    ct, mr = head_images(size=(20, 20, 20), spacing=(8, 8, 8))
    write_volume(mr, tmp_path / "mr.mha", like=ct, metadata={"target_modality": "MR FLAIR"})
    assert written_modality(tmp_path / "mr.mha") == "MR FLAIR"
