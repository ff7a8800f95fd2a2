"""The derived DICOM series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import head_hu, write_series

from DiffMaCore.errors import OutputError
from DiffMaCore.imaging.dicom import read_dicom_series
from DiffMaCore.imaging.dicom_writing import write_dicom_series
from DiffMaCore.imaging.reading import Volume, read_volume


def mr_like(ct: Volume) -> sitk.Image:
    return sitk.Cast(sitk.Clamp((ct.image + 1024) * 0.37, sitk.sitkFloat32, 0, 1000), sitk.sitkFloat32)


@pytest.fixture
def ct(tmp_path: Path) -> Volume:
    orientation = (0.36, 0.48, -0.8, -0.8, 0.6, 0)
    step = tuple(2.5 * np.cross(orientation[:3], orientation[3:]))
    return read_volume(write_series(tmp_path / "ct", head_hu(), orientation=orientation, step=step))


def test_values_and_geometry_come_back(ct: Volume, tmp_path: Path) -> None:
    mr = mr_like(ct)
    write_dicom_series(mr, tmp_path / "mr", source=ct.dicom)
    again, notes, resampled, _ = read_dicom_series(tmp_path / "mr", modality="MR")
    assert notes == [] and not resampled
    for ours, theirs in (
        (again.GetOrigin(), mr.GetOrigin()),
        (again.GetSpacing(), mr.GetSpacing()),
        (again.GetDirection(), mr.GetDirection()),
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert np.abs(sitk.GetArrayFromImage(again) - sitk.GetArrayFromImage(mr)).max() <= 0.0501


def test_itk_reads_it_as_one_volume(ct: Volume, tmp_path: Path) -> None:
    write_dicom_series(mr_like(ct), tmp_path / "mr", source=ct.dicom)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "mr"))
    image = sitk.ReadImage(names)
    assert image.GetSize() == ct.image.GetSize()
    np.testing.assert_allclose(image.GetDirection(), ct.image.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), ct.image.GetOrigin(), atol=1e-6)


def test_it_is_marked_as_derived_synthetic_research(ct: Volume, tmp_path: Path) -> None:
    write_dicom_series(mr_like(ct), tmp_path / "mr", source=ct.dicom, metadata={"model": "demo", "seed": 5})
    head = pydicom.dcmread(tmp_path / "mr" / "MR00003.dcm")
    assert list(head.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert (head.SyntheticData, head.ContentQualification, head.BurnedInAnnotation) == (
        "YES",
        "RESEARCH",
        "NO",
    )
    assert "research only" in head.DerivationDescription and "model demo; seed 5" in head.DerivationDescription
    assert head.SeriesDescription == "SYNTHETIC MR (research only)"
    assert head.Modality == "MR"


def test_it_belongs_to_the_cts_patient_and_study_and_names_its_source(ct: Volume, tmp_path: Path) -> None:
    write_dicom_series(mr_like(ct), tmp_path / "mr", source=ct.dicom)
    head = pydicom.dcmread(tmp_path / "mr" / "MR00003.dcm")
    source = next(d for d in map(pydicom.dcmread, (tmp_path / "ct").iterdir()) if d.InstanceNumber == 8 - 2)
    assert head.PatientName == "Doe^Jane" and head.PatientID == "secret-7"
    assert head.StudyInstanceUID == source.StudyInstanceUID
    assert head.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert head.SeriesInstanceUID != source.SeriesInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in head.SourceImageSequence] == [source.SOPInstanceUID]


def test_the_source_prints_no_patient(ct: Volume) -> None:
    assert "Doe" not in repr(ct) and "secret" not in repr(ct)


def test_without_a_dicom_source_the_study_is_anonymous(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).uniform(0, 900, (4, 6, 5)).astype(np.float32))
    write_dicom_series(image, tmp_path / "mr")
    head = pydicom.dcmread(tmp_path / "mr" / "MR00001.dcm")
    assert head.PatientID == "SYNTHETIC" and head.StudyInstanceUID
    assert "SourceImageSequence" not in head


def _place(image: sitk.Image, folder: Path, made_from: str = "") -> tuple[str, str]:
    """Study and frame of reference of an image that is written without a source."""
    write_dicom_series(image, folder, made_from=made_from)
    head = pydicom.dcmread(folder / "MR00001.dcm")
    return head.StudyInstanceUID, head.FrameOfReferenceUID


def test_without_a_source_two_patients_on_one_grid_are_two_studies_of_two_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, other = (sitk.GetImageFromArray(rng.uniform(0, 900, (4, 6, 5)).astype(np.float32)) for _ in range(2))
    (study, frame), (other_study, other_frame) = _place(one, tmp_path / "one"), _place(other, tmp_path / "other")
    assert study != other_study and frame != other_frame
    assert _place(one, tmp_path / "again") == (study, frame)


def test_results_of_one_ct_share_its_study_and_frame_without_a_source_too(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).uniform(0, 900, (4, 6, 5)).astype(np.float32))
    first = _place(image, tmp_path / "first", "of one CT")
    assert _place(image + 1, tmp_path / "second", "of one CT") == first
    assert not set(_place(image, tmp_path / "third", "of another CT")) & set(first)


def test_a_resampled_slice_names_the_slices_it_lies_between(shared: Path, tmp_path: Path) -> None:
    ct = read_volume(shared / "data" / "head_ct_dicom")
    write_dicom_series(mr_like(ct), tmp_path / "mr", source=ct.dicom)
    again, _, resampled, _ = read_dicom_series(tmp_path / "mr", modality="MR")
    assert not resampled and again.GetSize() == ct.image.GetSize()
    np.testing.assert_allclose(again.GetOrigin(), ct.image.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(again.GetSpacing(), ct.image.GetSpacing(), atol=1e-6)
    sources = [len(pydicom.dcmread(f).SourceImageSequence) for f in sorted((tmp_path / "mr").iterdir())]
    assert sources[0] == 1 and sources[20] == 2


def test_two_runs_write_the_same_bytes_and_another_result_differs(ct: Volume, tmp_path: Path) -> None:
    mr = mr_like(ct)
    for name, image in (("a", mr), ("b", mr), ("c", mr + 1)):
        write_dicom_series(image, tmp_path / name, source=ct.dicom, metadata={"seed": 1})
    a, b = ([f.read_bytes() for f in sorted((tmp_path / name).iterdir())] for name in "ab")
    assert a == b
    heads = [pydicom.dcmread(tmp_path / name / "MR00001.dcm") for name in "ac"]
    assert heads[0].SeriesInstanceUID != heads[1].SeriesInstanceUID
    assert heads[0].SOPInstanceUID != heads[1].SOPInstanceUID


def test_an_earlier_result_is_replaced_but_nothing_else(ct: Volume, tmp_path: Path) -> None:
    mr = mr_like(ct)
    write_dicom_series(mr, tmp_path / "mr", source=ct.dicom)
    write_dicom_series(mr[:, :, :3], tmp_path / "mr")
    assert len(list((tmp_path / "mr").iterdir())) == 3
    with pytest.raises(OutputError, match="holds other files"):
        write_dicom_series(mr, tmp_path / "ct")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ct", "mr"]


def test_an_interrupted_write_leaves_nothing(ct: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_dicom_series(mr_like(ct), tmp_path / "mr")
    assert [p.name for p in tmp_path.iterdir()] == ["ct"]
