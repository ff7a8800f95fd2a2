"""A DICOM folder in, every frame's header out, grouped into stacks one can choose from."""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.files import is_dicom

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "SeriesInstanceUID", "SeriesNumber",
    "SeriesDescription", "AcquisitionNumber", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows", "Columns", "NumberOfFrames",
    "PixelPaddingValue", "RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "SamplesPerPixel", "BitsAllocated", "BitsStored",
    "PhotometricInterpretation", "PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID",
]  # fmt: skip
_UNIMPORTANT = ("ImageType", "SeriesNumber", "SeriesDescription", "AcquisitionNumber", "InstanceNumber", "PatientName")
# odd headers are common, and pydicom's warnings would print what stands in them
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

_NEVER_MM = 1e5  # no scanner's table is 100 m long
_REAL_SLICES = 3  # fewer are a scout or a reference picture when a fuller series lies with them


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
    slices: tuple[Slice, ...] = field(repr=False)

    def __str__(self) -> str:
        number = "" if self.number is None else f"series number {self.number}, "
        description = f" '{self.description}'" if self.description else ""
        spacing = "" if self.spacing is None else ", {:.2f} x {:.2f} mm".format(*self.spacing)
        scout = ", localizer" if self.localizer else ""
        columns, rows, count = self.size
        slices = "1 slice" if count == 1 else f"{count} slices"
        text = f"{number}{self.modality}{description}, {slices} of {columns} x {rows}{spacing}{scout}"
        return f"#{self.index} ({text})"

    @property
    def usable(self) -> bool:
        """Whether this can be the volume someone means when naming only the folder."""
        return self.spacing is not None and not self.localizer and self.modality == "CT"


@dataclass(frozen=True)
class Slice:
    """One frame: where it lies and which file holds it."""

    path: Path
    frame: int
    header: Dataset = field(repr=False)
    position: np.ndarray | None
    orientation: np.ndarray | None  # (2, 3): directions along a row and along a column
    spacing: tuple[float, float] | None  # mm between columns (x) and between rows (y)
    thickness: float


def read_header(file: Path, keywords: Sequence[str] = _TAGS) -> Dataset:
    """These elements of a file, all of them decoded: nothing that is asked of them later can fail.

    Elements that decide nothing are left out where they cannot be decoded, and texts are read as far as they can be.

    Raises:
        InputError: no DICOM, or one of the others is damaged.
    """
    damaged = InputError(f"{file} is damaged DICOM; copy the series again or take the file away")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(keywords), force=True)
        except Exception as error:  # pydicom raises many kinds, and none of them is anyone's fault but the file's
            raise damaged from error
        for tag in list(head.keys()):
            try:
                repr(head[tag])  # decodes sequences down to their last item
            except Exception as error:
                if keyword_for_tag(tag) not in _UNIMPORTANT:
                    raise damaged from error
                del head[tag]
        try:
            repr(head.file_meta)
        except Exception as error:
            raise damaged from error
    return head


def numbers(file: Path, group: Dataset, keyword: str, count: int = 1) -> tuple[float, ...] | None:
    """The numbers under ``keyword``; None where there are none.

    Raises:
        InputError: others than ``count`` finite numbers.
    """
    value = group.get(keyword)
    if value is None or value == "":
        return None
    try:
        found = tuple(float(v) for v in (value if isinstance(value, (MultiValue, list, tuple)) else [value]))
    except (TypeError, ValueError, OverflowError):
        found = ()
    if len(found) != count or not np.isfinite(found).all():
        raise InputError(f"{file} has a {keyword} that is no such number; export the series again")
    return found


def integer(file: Path, group: Dataset, keyword: str, default: int | None = None) -> int:
    """The whole number under ``keyword``, at least 0; InputError where it is none, or absent without a default."""
    found = numbers(file, group, keyword)
    if found is None and default is not None:
        return default
    if found is None or found[0] != int(found[0]) or found[0] < 0:
        raise InputError(f"{file} has no usable {keyword}; export the series again")
    return int(found[0])


def list_series(path: str | Path) -> list[Series]:
    """The image series in a folder (at any depth), next to a DICOM file or in a list of files, by number and UID.

    A list is a text file (.txt) with the path of one file a line.

    Stacks of different size or orientation within one series UID count separately, and so do complete
    repetitions (phases) of the same positions.

    Raises:
        InputError: there is no DICOM image.
    """
    path = Path(path)
    files = _listed(path) if path.suffix.lower() == ".txt" else _around(path)
    stacks: dict[tuple[str, int, int], list[list[Slice]]] = defaultdict(list)
    for file in files:
        for item in _slices_of(file):
            head = item.header
            alike = stacks[str(head.get("SeriesInstanceUID", "")), int(head.Rows), int(head.Columns)]
            stack = next((stack for stack in alike if _parallel(stack[0], item)), None)
            if stack is None:
                alike.append([item])
            else:
                stack.append(item)
    for alike in stacks.values():
        lost = [stack[0].path for stack in alike if stack[0].position is None or stack[0].spacing is None]
        if 0 < len(lost) < len(alike):
            raise InputError(f"{lost[0]} lacks the position or pixel spacing that its series has; export it again")
    if not stacks:
        raise InputError(f"{path} holds no DICOM image; name the folder that holds the CT's files")
    parts = [(key[0], part) for key, alike in stacks.items() for s in alike for part in _split_phases(s)]
    parts.sort(key=lambda p: (to_int(p[1][0].header.get("SeriesNumber")) or 0, p[0], -len(p[1])))
    fullest = max(len(part) for _, part in parts)
    return [_describe(i, uid, part, fullest) for i, (uid, part) in enumerate(parts, start=1)]


def _around(path: Path) -> list[Path]:
    return sorted(p for p in (path.rglob("*") if path.is_dir() else path.parent.iterdir()) if is_dicom(p))


def _listed(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path} is no readable list of files; write one path a line, in UTF-8") from None
    files = [Path(line.strip()) for line in lines if line.strip()]
    if any(not is_dicom(file) for file in files):
        raise InputError(f"{path} names a file that is not there or is no DICOM; list the CT's own files")
    return files


def _slices_of(file: Path) -> list[Slice]:
    """The frames of one file; empty when it holds no image."""
    head = read_header(file)
    if "Rows" not in head or "Columns" not in head:
        kinds = (head.get("SOPClassUID", ""), head.file_meta.get("MediaStorageSOPClassUID", ""))
        cut = not any(kinds) and head.preamble is not None  # what is DICOM and no image says what it is
        if cut or any(UID(str(kind)).name.endswith("Image Storage") for kind in kinds):
            raise InputError(f"{file} is truncated or damaged; copy the series again")
        return []
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        if integer(file, head, keyword) < 1:
            raise InputError(f"{file} has no usable {keyword}; export the series again")
    count = integer(file, head, "NumberOfFrames", 1)
    frames = head.get("PerFrameFunctionalGroupsSequence")
    if frames is None and (count <= 1 or "ImagePositionPatient" not in head):
        return [_slice(file, 0, head, [] if count > 1 else [head])]  # frames without positions: no volume
    if not isinstance(frames, Sequence) or len(frames) != count:
        raise InputError(f"{file} promises {count} frames, which it does not describe; copy the series again")
    rescales = {str(frame.get("PixelValueTransformationSequence")) for frame in frames}
    if len(rescales) > 1:
        raise InputError(f"{file} has frames of different scale; export it as one file per slice")
    shared = list(head.get("SharedFunctionalGroupsSequence") or [])
    return [_slice(file, k, head, [frame, *shared]) for k, frame in enumerate(frames)]


def _slice(file: Path, frame: int, head: Dataset, groups: list[Dataset]) -> Slice:
    position = _value(file, groups, "PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = _value(file, groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _value(file, groups, "PixelMeasuresSequence", "PixelSpacing", 2)
    try:
        thickness = _value(file, groups, "PixelMeasuresSequence", "SliceThickness", 1)
    except InputError:  # used for a single slice only
        thickness = None
    far = position is not None and np.abs(position).max() > _NEVER_MM
    odd = spacing is not None and not (spacing.min() > 1e-3 and spacing.max() < 1e3)
    turned = orientation is not None and np.abs(np.linalg.norm(orientation.reshape(2, 3), axis=1) - 1).max() > 1e-2
    if far or odd or turned:
        raise InputError(f"{file} has an impossible position, orientation or pixel spacing; export the series again")
    return Slice(
        path=file,
        frame=frame,
        header=head,
        position=position,
        orientation=None if orientation is None else orientation.reshape(2, 3),
        spacing=None if spacing is None else (float(spacing[1]), float(spacing[0])),
        thickness=0.0 if thickness is None else max(0.0, float(thickness[0])),
    )


def _value(file: Path, groups: list[Dataset], sequence: str, keyword: str, length: int) -> np.ndarray | None:
    """Numbers under ``keyword``, plain or inside a functional group; None where absent."""
    for group in groups:
        items = group.get(sequence)
        found = numbers(file, items[0] if isinstance(items, Sequence) and items else group, keyword, length)
        if found is not None:
            return np.array(found)
    return None


def _parallel(a: Slice, b: Slice) -> bool:
    """Whether two slices can lie in one stack, headers' rounding allowed for."""
    if a.orientation is None or b.orientation is None or a.spacing is None or b.spacing is None:
        return (a.orientation is None, a.spacing is None) == (b.orientation is None, b.spacing is None)
    return np.allclose(a.orientation, b.orientation, atol=2e-3) and np.allclose(a.spacing, b.spacing, rtol=1e-3)


def _split_phases(stack: list[Slice]) -> list[list[Slice]]:
    """Split a stack by acquisition number where that turns repeated positions into whole repetitions."""
    if len({_place(item) for item in stack}) == len(stack):
        return [stack]
    phases: dict[int | None, list[Slice]] = defaultdict(list)
    for item in stack:
        phases[to_int(item.header.get("AcquisitionNumber"))].append(item)
    whole = all(len({_place(item) for item in phase}) == len(phase) for phase in phases.values())
    return list(phases.values()) if whole and len({len(phase) for phase in phases.values()}) == 1 else [stack]


def _place(item: Slice) -> tuple[float, ...] | int:
    return id(item) if item.position is None else tuple(np.round(item.position, 3))


def to_int(value: object) -> int | None:
    try:
        return int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None


def _describe(index: int, uid: str, stack: list[Slice], fullest: int) -> Series:
    head = stack[0].header
    placed = all(item.position is not None and item.orientation is not None for item in stack)
    few = len(stack) < _REAL_SLICES <= fullest
    return Series(
        index=index,
        number=to_int(head.get("SeriesNumber")),
        description=" ".join(str(head.get("SeriesDescription", "")).split())[:64],
        modality=str(head.get("Modality", "")) or "unknown",
        size=(int(head.Columns), int(head.Rows), len(stack)),
        spacing=stack[0].spacing if placed else None,
        localizer=few or "LOCALIZER" in [str(part).upper() for part in np.atleast_1d(head.get("ImageType") or [])],
        uid=uid,
        slices=tuple(stack),
    )
