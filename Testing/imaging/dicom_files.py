"""Small DICOM series for the tests, written by pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

STUDY = generate_uid(entropy_srcs=["study"])
FRAME = generate_uid(entropy_srcs=["frame"])


def head_hu(size: int = 32, slices: int = 8) -> np.ndarray:
    """HU (slices, size, size) of a ball of brain in a skull, different in every slice."""
    z, y, x = np.meshgrid(np.linspace(-1, 1, slices), np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    radius = np.sqrt(z * z * 0.5 + y * y + x * x)
    hu = np.full(radius.shape, -1000)
    hu[radius < 0.85] = 900
    hu[radius < 0.75] = 35
    return hu + np.arange(slices)[:, None, None]


def write_slice(
    path: Path,
    hu: np.ndarray,
    position: tuple[float, float, float],
    *,
    series: str = "a",
    number: int = 1,
    instance: int = 1,
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    spacing: tuple[float, float] = (0.9, 0.8),
    slope: float = 1,
    intercept: float = -1024,
    **tags: object,
) -> Dataset:
    """Write one CT slice; ``spacing`` is mm between rows and between columns, ``tags`` override or add."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(instance), str(position)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.Modality, data.PatientName, data.PatientID = "CT", "Doe^Jane", "secret-7"
    data.PatientBirthDate, data.PatientSex = "19500102", "F"
    data.StudyInstanceUID, data.FrameOfReferenceUID = STUDY, FRAME
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
    data.SeriesNumber, data.InstanceNumber, data.SeriesDescription = number, instance, f"series {series}"
    data.StudyDate, data.StudyTime, data.AccessionNumber, data.StudyID = "20200101", "120000", "", ""
    data.ImagePositionPatient = [float(x) for x in position]
    data.ImageOrientationPatient = [float(x) for x in orientation]
    data.PixelSpacing, data.SliceThickness = list(spacing), 3.0
    data.Rows, data.Columns = hu.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = slope, intercept, "HU"
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    data.PixelData = np.round((hu - intercept) / slope).astype("<i2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return pydicom.dcmread(path)


def write_series(folder: Path, hu: np.ndarray, *, step: tuple[float, float, float] = (0, 0, 3.0), **tags) -> Path:
    """Write a series whose slices advance by ``step`` mm; file names are in no useful order."""
    for k, plane in enumerate(hu):
        position = tuple(-10.0 + k * s for s in step)
        write_slice(folder / f"{(k * 5) % 97:02d}x{k}", plane, position, instance=len(hu) - k, **tags)  # type: ignore[arg-type]
    return folder


def write_enhanced(
    path: Path, hu: np.ndarray, order: Sequence[int], *, frames: int | None = None, positions: int | None = None
) -> None:
    """One multi-frame file whose frames come in ``order``; it may promise ``frames`` and hold ``positions``, others."""
    write_slice(path, hu[0], (0, 0, 0))
    data = pydicom.dcmread(path)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
                    "RescaleSlope", "RescaleIntercept", "RescaleType"):  # fmt: skip
        delattr(data, keyword)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    shared, measures, plane, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.9, 0.8], 3.0
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = -1024, 1, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PixelValueTransformationSequence = [rescale]
    data.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for k in order if positions is None else range(positions):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [1.0, 2.0, 3.0 * k]
        frame.PlanePositionSequence = [position]
        groups.append(frame)
    data.PerFrameFunctionalGroupsSequence = groups
    data.NumberOfFrames = len(order) if frames is None else frames
    data.PixelData = (hu[list(order)] + 1024).astype("<i2").tobytes()
    data.save_as(path)
