"""Read a DICOM series: find it, choose it, sort it by position, and put it on one regular grid.

Headers are read by pydicom, voxels by GDCM (inside SimpleITK), which knows every transfer syntax in use.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from DiffMaCore.errors import InputError
from DiffMaCore.volumes.regrid import Stack, to_regular_grid

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "SeriesInstanceUID", "SeriesNumber",
    "SeriesDescription", "AcquisitionNumber", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows", "Columns", "NumberOfFrames",
    "PixelPaddingValue", "RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "SamplesPerPixel", "BitsAllocated",
]  # fmt: skip
_REAL_SLICES = 3  # fewer are a scout or a reference picture when a fuller series lies beside them
_FOREIGN_GROUPS = ("DICOMDIR",)


@dataclass(frozen=True)
class DicomSource:
    """What a derived series takes from its source. Holds the patient's data: never log or print it.

    Attributes:
        header: one slice's data set without pixels.
        instances: (SOP class UID, SOP instance UID) in slice order.
        resampled: True when the volume's slices are no longer those of the files.
    """

    header: Dataset = field(repr=False)
    instances: tuple[tuple[str, str], ...] = field(repr=False)
    resampled: bool = False


@dataclass(frozen=True)
class Series:
    """One stack of slices found in a folder (``list_series``)."""

    index: int
    number: int | None
    description: str
    modality: str
    size: tuple[int, int, int]
    spacing: tuple[float, float] | None
    localizer: bool
    uid: str = field(repr=False)
    slices: tuple[_Slice, ...] = field(repr=False)

    def __str__(self) -> str:
        number = "" if self.number is None else f"series number {self.number}, "
        description = f" '{self.description}'" if self.description else ""
        spacing = "" if self.spacing is None else ", {:.2f} x {:.2f} mm".format(*self.spacing)
        scout = ", localizer" if self.localizer else ""
        return (
            f"#{self.index} ({number}{self.modality}{description}, {self.size[2]} slices of"
            f" {self.size[0]} x {self.size[1]}{spacing}{scout})"
        )

    @property
    def usable(self) -> bool:
        """Whether this can be the volume someone means when naming only the folder."""
        return self.spacing is not None and not self.localizer and self.modality == "CT"


@dataclass(frozen=True)
class _Slice:
    """One frame: where it lies and which file holds it."""

    path: Path
    frame: int
    header: Dataset = field(repr=False)
    position: np.ndarray | None
    orientation: np.ndarray | None  # (2, 3): directions along a row and along a column
    spacing: tuple[float, float] | None  # mm between columns (x) and between rows (y)
    thickness: float


def is_dicom(path: Path) -> bool:
    """Whether ``path`` is a DICOM file, with or without the preamble and whatever its name."""
    if not path.is_file() or path.name.upper() == "DICOMDIR":
        return False
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
        if start[128:] == b"DICM":
            return True
        if path.suffix.lower() not in (".dcm", ".ima", ".dicom") or len(start) < 132:
            return False
        return "SOPClassUID" in pydicom.dcmread(path, force=True, specific_tags=["SOPClassUID"])
    except (OSError, InvalidDicomError, ValueError, KeyError, AttributeError, NotImplementedError, EOFError):
        return False


def list_series(path: str | Path) -> list[Series]:
    """The image series in a folder (at any depth) or beside a DICOM file, in order of number and UID.

    Stacks of different size or orientation within one series UID count separately, and so do complete
    repetitions (phases) of the same positions.

    Raises:
        InputError: there is no DICOM image.
    """
    path = Path(path)
    files = sorted(p for p in (path.rglob("*") if path.is_dir() else path.parent.iterdir()) if is_dicom(p))
    stacks: dict[tuple, list[_Slice]] = defaultdict(list)
    for file in files:
        for item in _slices_of(file):
            head = item.header
            facing = None if item.orientation is None else tuple(np.round(item.orientation.ravel(), 3) + 0.0)
            key = (str(head.get("SeriesInstanceUID", "")), head.Rows, head.Columns, item.spacing, facing)
            stacks[key].append(item)
    if not stacks:
        raise InputError(f"{path} holds no DICOM image: name the folder that holds the CT's files.")
    parts = [(key[0], part) for key, stack in stacks.items() for part in _split_phases(stack)]
    parts.sort(key=lambda p: (_int(p[1][0].header.get("SeriesNumber")) or 0, p[0], -len(p[1])))
    fullest = max(len(part) for _, part in parts)
    return [_describe(i, uid, part, fullest) for i, (uid, part) in enumerate(parts, start=1)]


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
    chosen, notes = _choose(path, list_series(path), series, modality)
    if modality and chosen.modality != modality:
        raise InputError(f"{path} holds {chosen.modality} images, not {modality}: give a {modality} series.")
    if chosen.spacing is None:
        raise InputError(
            f"{path} holds images without position or pixel spacing: export the original {modality} series."
        )
    if int(chosen.slices[0].header.get("SamplesPerPixel", 1)) != 1:
        raise InputError(f"{path} holds colour pictures (screenshots): give the original {modality} series.")
    slices, duplicates = _sorted_slices(chosen)
    if duplicates:
        notes.append(f"{duplicates} slices lie where another one lies: the first of each was used.")
    voxels, padded = _read_voxels(slices)
    if padded:
        notes.append(f"The padding around the scanner's round field ({padded:g} HU) was set to -1024 HU.")
    orientation = slices[0].orientation
    assert orientation is not None
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
    header = pydicom.dcmread(slices[0].path, stop_before_pixels=True, force=True)
    instances = tuple((str(s.header.SOPClassUID), str(s.header.SOPInstanceUID)) for s in slices)
    return image, notes, bool(moved), DicomSource(header, instances, bool(moved))


def _slices_of(file: Path) -> list[_Slice]:
    """The frames of one file; empty when it holds no image or cannot be parsed."""
    try:
        head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        if "Rows" not in head or "Columns" not in head:
            return []
        frames = head.get("PerFrameFunctionalGroupsSequence")
        if frames is None:
            return [_slice(file, 0, head, [head])]
        shared = list(head.get("SharedFunctionalGroupsSequence") or [])
        return [_slice(file, k, head, [frame, *shared]) for k, frame in enumerate(frames)]
    except (OSError, InvalidDicomError, ValueError, KeyError, AttributeError, TypeError, EOFError):
        return []


def _slice(file: Path, frame: int, head: Dataset, groups: list[Dataset]) -> _Slice:
    position = _value(groups, "PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = _value(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _value(groups, "PixelMeasuresSequence", "PixelSpacing", 2)
    thickness = _value(groups, "PixelMeasuresSequence", "SliceThickness", 1)
    return _Slice(
        path=file,
        frame=frame,
        header=head,
        position=position,
        orientation=None if orientation is None else orientation.reshape(2, 3),
        spacing=None if spacing is None or spacing.min() <= 0 else (float(spacing[1]), float(spacing[0])),
        thickness=0.0 if thickness is None else float(thickness[0]),
    )


def _value(groups: list[Dataset], sequence: str, keyword: str, length: int) -> np.ndarray | None:
    """Numbers under ``keyword``, plain or inside a functional group; None where absent or not finite."""
    for group in groups:
        holder = group[sequence].value[0] if group.get(sequence) else group
        value = holder.get(keyword)
        if value is not None and value != "":
            numbers = np.atleast_1d(np.array(value, dtype=np.float64))
            return numbers if numbers.shape == (length,) and np.isfinite(numbers).all() else None
    return None


def _split_phases(stack: list[_Slice]) -> list[list[_Slice]]:
    """Split a stack by acquisition number where that turns repeated positions into whole repetitions."""
    if len({_place(item) for item in stack}) == len(stack):
        return [stack]
    phases: dict[int | None, list[_Slice]] = defaultdict(list)
    for item in stack:
        phases[_int(item.header.get("AcquisitionNumber"))].append(item)
    whole = all(len({_place(item) for item in phase}) == len(phase) for phase in phases.values())
    return list(phases.values()) if whole and len({len(phase) for phase in phases.values()}) == 1 else [stack]


def _place(item: _Slice) -> tuple[float, ...] | int:
    return id(item) if item.position is None else tuple(np.round(item.position, 3))


def _int(value: object) -> int | None:
    try:
        return int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None


def _describe(index: int, uid: str, stack: list[_Slice], fullest: int) -> Series:
    head = stack[0].header
    placed = all(item.position is not None and item.orientation is not None for item in stack)
    few = len(stack) < _REAL_SLICES <= fullest
    return Series(
        index=index,
        number=_int(head.get("SeriesNumber")),
        description=str(head.get("SeriesDescription", "")).strip(),
        modality=str(head.get("Modality", "")) or "unknown",
        size=(int(head.Columns), int(head.Rows), len(stack)),
        spacing=stack[0].spacing if placed else None,
        localizer=few or "LOCALIZER" in [str(part).upper() for part in head.get("ImageType") or []],
        uid=uid,
        slices=tuple(stack),
    )


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
        raise InputError(f"--series {text} does not name one series of {path}: choose from {listing}.")
    if path.is_file():
        mine = [
            series for series in found if any(os.path.samefile(item.path, path) for item in series.slices)
        ]
        if len(mine) == 1:
            return mine[0], []
    if len(found) == 1:
        return found[0], []
    usable = [series for series in found if series.usable or (modality is None and series.spacing)]
    if len(usable) == 1:
        others = "; ".join(str(series) for series in found if series is not usable[0])
        return usable[0], [f"Read {usable[0]}; left aside {others}."]
    raise InputError(f"{path} holds {len(found)} series, choose one with --series: {listing}.")


def _sorted_slices(series: Series) -> tuple[list[_Slice], int]:
    """Slices along their normal, repeated positions left out, and how many those were."""
    orientation = series.slices[0].orientation
    assert orientation is not None
    normal = np.cross(orientation[0], orientation[1])
    items = sorted(
        series.slices, key=lambda s: (float(s.position @ normal), _int(s.header.get("InstanceNumber")) or 0)
    )  # type: ignore[operator]
    kept: list[_Slice] = []
    for item in items:
        if not kept or (item.position - kept[-1].position) @ normal > 1e-3:  # type: ignore[operator]
            kept.append(item)
    return kept, len(items) - len(kept)


def _read_voxels(slices: list[_Slice]) -> tuple[np.ndarray, float | None]:
    """Voxels (slices, rows, columns) float32 after rescale, padding as air; and the padding's value."""
    head = slices[0].header
    voxels = np.empty((len(slices), int(head.Rows), int(head.Columns)), np.float32)
    padding = None
    frames: np.ndarray = np.empty(0)
    path: Path | None = None
    for k, item in enumerate(slices):
        if item.path != path:
            frames, path = _frames(item), item.path
        voxels[k] = frames[item.frame]
        value = _padding(item.header)
        if value is not None and (hit := voxels[k] == np.float32(value)).any():
            voxels[k][hit] = -1024
            padding = value
    return voxels, padding


def _padding(head: Dataset) -> float | None:
    """Padding in rescaled units, where it can't be mistaken for tissue or air."""
    raw = _int(head.get("PixelPaddingValue"))
    if raw is None:
        return None
    value = raw * float(head.get("RescaleSlope") or 1) + float(head.get("RescaleIntercept") or 0)
    return value if value < -1024 or value > 4000 else None


def _frames(item: _Slice) -> np.ndarray:
    """All frames of a file (frames, rows, columns), rescaled by GDCM."""
    try:
        image = sitk.ReadImage(str(item.path), sitk.sitkFloat32, imageIO="GDCMImageIO")
        array = sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        raise InputError(
            f"{item.path} is truncated or its pixels cannot be decoded: copy the series again."
        ) from error
    array = array.reshape(-1, *array.shape[-2:])
    if array.shape[1:] != (item.header.Rows, item.header.Columns) or len(array) <= item.frame:
        raise InputError(f"{item.path} is truncated or its pixels cannot be decoded: copy the series again.")
    return array
