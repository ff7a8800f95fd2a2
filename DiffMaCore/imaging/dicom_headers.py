"""What lies in a DICOM folder: every frame's header, grouped into stacks one can choose from."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from DiffMaCore.errors import InputError

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "SeriesInstanceUID", "SeriesNumber",
    "SeriesDescription", "AcquisitionNumber", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows", "Columns", "NumberOfFrames",
    "PixelPaddingValue", "RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "SamplesPerPixel", "BitsAllocated",
]  # fmt: skip
# odd headers are common, and pydicom's warnings would print what stands in them
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

_REAL_SLICES = 3  # fewer are a scout or a reference picture when a fuller series lies beside them


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
    """The image series in a folder (at any depth), beside a DICOM file or in a list of files, by number and UID.

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
    try:
        head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        if "Rows" not in head or "Columns" not in head:
            if UID(head.get("SOPClassUID", "")).name.endswith("Image Storage"):
                raise InputError(f"{file} is truncated or damaged; copy the series again")
            return []
        frames = head.get("PerFrameFunctionalGroupsSequence")
        if frames is None:
            many = int(head.get("NumberOfFrames") or 1) > 1  # frames without positions: no volume
            return [_slice(file, 0, head, [] if many else [head])]
        rescales = {str(frame.get("PixelValueTransformationSequence")) for frame in frames}
        if len(rescales) > 1:
            raise InputError(f"{file} has frames of different scale; export it as one file per slice")
        shared = list(head.get("SharedFunctionalGroupsSequence") or [])
        return [_slice(file, k, head, [frame, *shared]) for k, frame in enumerate(frames)]
    except (OSError, InvalidDicomError, ValueError, KeyError, AttributeError, TypeError, EOFError) as error:
        raise InputError(f"{file} is damaged DICOM; copy the series again or take the file away") from error


def _slice(file: Path, frame: int, head: Dataset, groups: list[Dataset]) -> Slice:
    position = _value(groups, "PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = _value(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _value(groups, "PixelMeasuresSequence", "PixelSpacing", 2)
    thickness = _value(groups, "PixelMeasuresSequence", "SliceThickness", 1)
    return Slice(
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
    except (TypeError, ValueError):
        return None


def _describe(index: int, uid: str, stack: list[Slice], fullest: int) -> Series:
    head = stack[0].header
    placed = all(item.position is not None and item.orientation is not None for item in stack)
    few = len(stack) < _REAL_SLICES <= fullest
    return Series(
        index=index,
        number=to_int(head.get("SeriesNumber")),
        description=str(head.get("SeriesDescription", "")).strip(),
        modality=str(head.get("Modality", "")) or "unknown",
        size=(int(head.Columns), int(head.Rows), len(stack)),
        spacing=stack[0].spacing if placed else None,
        localizer=few or "LOCALIZER" in [str(part).upper() for part in head.get("ImageType") or []],
        uid=uid,
        slices=tuple(stack),
    )
