"""Read a DICOM series: choose it, sort it by position, and put it on one regular grid.

Headers are read by pydicom, voxels by GDCM (inside SimpleITK), which knows every transfer syntax in use.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from DiffMaCore.errors import InputError, is_out_of_memory
from DiffMaCore.imaging.dicom_checks import check_one_series, check_pixels, is_compressed, odd_slices
from DiffMaCore.imaging.dicom_codes import count_surplus, lossless_codes
from DiffMaCore.imaging.dicom_headers import Series, Slice, integer, list_series, numbers, to_int
from DiffMaCore.imaging.regrid import Stack, to_regular_grid

COPIED = (
    # patient
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "PatientSize", "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod",
    # study
    "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyDescription",
    "ReferringPhysicianName",
    # frame of reference and position
    "FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined", "Laterality",
)  # fmt: skip
"""What a derived series takes over from its source."""


@dataclass(frozen=True)
class DicomSource:
    """What a derived series takes from its source. Holds the patient's data: never log or print it.

    Attributes:
        header: ``COPIED`` of one slice.
        instances: (SOP class UID, SOP instance UID) in slice order.
        positions: (slices, 3) centre of the first pixel of each of these slices, mm, LPS.
    """

    header: Dataset = field(repr=False)
    instances: tuple[tuple[str, str], ...] = field(repr=False)
    positions: np.ndarray = field(repr=False)


def read_dicom_series(
    path: Path, series: str | int | None = None, *, modality: str | None = "CT"
) -> tuple[sitk.Image, list[str], bool, DicomSource]:
    """Read one series: image (float32, rescaled), notes, whether it was resampled, and its source.

    Args:
        path: a folder, or one file of the series.
        series: as in ``read_volume``.
        modality: the modality it must have; None accepts any.

    Raises:
        InputError: no or several series, another modality, no positions, or damaged pixels.
    """
    chosen, notes = _positioned(path, series, modality)
    check_one_series(path, chosen)
    slices, duplicates = _sorted_slices(chosen)
    if duplicates >= len(slices) > 1 or (duplicates and len(slices) == 1):
        raise InputError(f"{path} has most of its slices at one position; export the series again")
    if duplicates:
        notes.append(f"{duplicates} slices lie where another one lies: the first of each was used.")
    voxels, padded, surplus = _read_voxels(slices)
    if is_compressed(slices[0].path):
        notes += odd_slices(slices, voxels, surplus)
    if padded:
        notes.append(f"The padding around the scanner's round field ({padded:g} HU) was set to -1024 HU.")
    orientation = slices[0].orientation
    assert orientation is not None and chosen.spacing is not None
    stack = Stack(
        voxels=voxels,
        positions=np.array([item.position for item in slices]),
        row=orientation[0],
        column=orientation[1],
        spacing=chosen.spacing,
        thickness=slices[0].thickness,
    )
    image, moved = to_regular_grid(stack)
    notes += moved
    return image, notes, bool(moved), _source(slices)


def find_source(path: Path, series: str | int | None = None) -> DicomSource:
    """``reading.read_dicom_source``, in this process."""
    return _source(_sorted_slices(_positioned(path, series, "CT")[0])[0])


def pack_source(source: DicomSource) -> dict[str, Any]:
    """A source as JSON holds it."""
    return {
        "header": source.header.to_json_dict(),
        "instances": source.instances,
        "positions": source.positions.tolist(),
    }


def unpack_source(packed: dict[str, Any]) -> DicomSource:
    """What :func:`pack_source` packed."""
    instances = tuple((str(kind), str(uid)) for kind, uid in packed["instances"])
    return DicomSource(Dataset.from_json(packed["header"]), instances, np.array(packed["positions"]))


def _positioned(path: Path, series: str | int | None, modality: str | None) -> tuple[Series, list[str]]:
    chosen, notes = _choose(path, list_series(path), series, modality)
    if modality and chosen.modality != modality:
        raise InputError(f"{path} holds {chosen.modality} images, not {modality}; give a {modality} series")
    if chosen.spacing is None:
        raise InputError(f"{path} holds images without position or pixel spacing; export the original series")
    return chosen, notes


def _source(slices: list[Slice]) -> DicomSource:
    """The elements a derived series copies, as far as they can be read, in Unicode."""
    full = pydicom.dcmread(slices[0].path, stop_before_pixels=True, force=True, specific_tags=list(COPIED))
    header = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword in COPIED:
            with suppress(Exception):  # an element that cannot be read is one that was not given
                element = full[keyword]
                element.to_json_dict(None, 0)
                header[keyword] = element
    header.SpecificCharacterSet = "ISO_IR 192"
    instances = tuple((str(s.header.get("SOPClassUID")), str(s.header.get("SOPInstanceUID"))) for s in slices)
    return DicomSource(header, instances, np.array([item.position for item in slices]))


def _choose(
    path: Path, found: list[Series], wanted: str | int | None, modality: str | None
) -> tuple[Series, list[str]]:
    """The series meant, and what to say about those left aside."""
    listing = "; ".join(str(series) for series in found)
    if wanted is not None:
        text = str(wanted).strip()
        rules = (
            lambda s: s.number is not None and str(s.number) == text,
            lambda s: str(s.index) == text.removeprefix("#"),
            lambda s: bool(text) and s.uid.endswith(text),
        )
        for rule in rules[1:] if text.startswith("#") else rules:
            matching = [series for series in found if rule(series)]
            if len(matching) == 1:
                return matching[0], []
            if matching:
                break
        raise InputError(f"--series {text} does not name one series of {path}; choose from {listing}")
    if path.is_file():
        mine = [series for series in found if any(path.samefile(item.path) for item in series.slices)]
        if len(mine) == 1:
            return mine[0], []
    if len(found) == 1:
        return found[0], []
    usable = [series for series in found if series.usable or (modality is None and series.spacing)]
    if len(usable) == 1:
        others = "; ".join(str(series) for series in found if series is not usable[0])
        return usable[0], [f"Read {usable[0]}; left aside {others}."]
    raise InputError(f"{path} holds {len(found)} series; choose one with --series: {listing}")


def _sorted_slices(series: Series) -> tuple[list[Slice], int]:
    """Slices along their normal, repeated positions left out, and how many those were."""
    orientation = series.slices[0].orientation
    assert orientation is not None
    normal = np.cross(orientation[0], orientation[1])
    items = sorted(
        series.slices, key=lambda s: (float(s.position @ normal), to_int(s.header.get("InstanceNumber")) or 0)
    )  # type: ignore[operator]
    kept: list[Slice] = []
    for item in items:
        if not kept or (item.position - kept[-1].position) @ normal > 1e-3:  # type: ignore[operator]
            kept.append(item)
    return kept, len(items) - len(kept)


def _read_voxels(slices: list[Slice]) -> tuple[np.ndarray, float | None, np.ndarray]:
    """Voxels (slices, rows, columns) float32 after rescale, padding as air; the padding's value; surplus of codes."""
    head = slices[0].header
    voxels = np.empty((len(slices), int(head.Rows), int(head.Columns)), np.float32)
    padding = None
    surplus = np.zeros(len(slices))
    frames: np.ndarray = np.empty(0)
    codes: list[bytes] = []
    path: Path | None = None
    for k, item in enumerate(slices):
        if item.path != path:
            frames, codes, path = _frames(item), lossless_codes(item.path, item.header), item.path
        voxels[k] = frames[item.frame]
        if codes:
            slope, intercept = _scale(item)
            surplus[k] = count_surplus(codes[item.frame], np.rint((voxels[k] - intercept) / slope).astype(np.int32))
        value = _padding(item)
        if value is not None and (hit := voxels[k] == np.float32(value)).any():
            voxels[k][hit] = -1024
            padding = value
    return voxels, padding, surplus


def _scale(item: Slice) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where there are none."""
    slope, intercept = (numbers(item.path, item.header, f"Rescale{name}") for name in ("Slope", "Intercept"))
    return (slope[0] if slope else 1.0), (intercept[0] if intercept else 0.0)


def _padding(item: Slice) -> float | None:
    """Padding in rescaled units, where it can't be mistaken for tissue or air."""
    raw = to_int(item.header.get("PixelPaddingValue"))
    if raw is None:
        return None
    slope, intercept = _scale(item)
    value = raw * slope + intercept
    return value if value < -1024 or value > 4000 else None


def _frames(item: Slice) -> np.ndarray:
    """All frames of a file (frames, rows, columns), rescaled by GDCM."""
    damaged = InputError(f"{item.path} is truncated or its pixels cannot be decoded; copy the series again")
    check_pixels(item)
    try:
        image = sitk.ReadImage(str(item.path), sitk.sitkFloat32, imageIO="GDCMImageIO")
        array = sitk.GetArrayFromImage(image)
    except (RuntimeError, TypeError) as error:  # TypeError: a name that is no UTF-8
        if is_out_of_memory(error):
            raise
        raise damaged from error
    shape = (integer(item.path, item.header, "NumberOfFrames", 1) or 1, item.header.Rows, item.header.Columns)
    if array.size != np.prod(shape) or array.shape[-2:] != shape[1:] or len(array.shape) > 3:
        raise damaged
    return array.reshape(shape)
