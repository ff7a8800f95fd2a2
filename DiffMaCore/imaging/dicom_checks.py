"""A DICOM series in, out whether it is one series of one patient, and its pixels what its headers promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.dicom_headers import Series, Slice, integer, numbers, to_int

_ONE = {
    "Modality": "modalities",
    "PatientID": "patients",
    "PatientName": "patients",
    "StudyInstanceUID": "studies",
    "FrameOfReferenceUID": "frames of reference, so their positions have nothing to do with each other",
}
_ITEM = b"\xfe\xff\x00\xe0"  # begins the pixels of every compressed coding
_ROUGHER, _ROUGHER_HU = 1.3, 8.0  # than the neighbours: damaged codes decode to streaks and blocks
_ODD_BYTES = 3  # more or fewer than the pixels need
_STREAK, _STREAK_HU = 1.5, 100.0  # times the greatest change from row to row in the slices beside it, and more


def check_one_series(path: Path, series: Series) -> None:
    """Raise InputError where slices belong to several patients, or cannot be grey values in a known scale."""
    for keyword, what in _ONE.items():
        found = {_normal(str(item.header.get(keyword, ""))) for item in series.slices}
        if len(found) > 1:
            raise InputError(f"{path} holds slices of {len(found)} {what}; export each series alone")
    for item in series.slices:
        if integer(item.path, item.header, "SamplesPerPixel", 1) != 1 or not str(
            item.header.get("PhotometricInterpretation", "MONOCHROME2")
        ).startswith("MONOCHROME"):
            raise InputError(f"{path} holds colour pictures (screenshots); give the original series")
    _check_scale(path, series)


def _normal(text: str) -> str:
    """Spelling aside: a name written with and without trailing carets is one name."""
    return " ".join(text.replace("^", " ").casefold().split())


def _check_scale(path: Path, series: Series) -> None:
    """One slope and intercept for each slice, or none for all: GDCM takes 1 and 0 for whatever it cannot read."""
    given = set()
    for item in series.slices:
        slope, intercept = (numbers(item.path, item.header, f"Rescale{name}") for name in ("Slope", "Intercept"))
        empty = any(f"Rescale{name}" in item.header for name in ("Slope", "Intercept")) and not (slope and intercept)
        if empty or (slope and not 1e-6 < slope[0] < 1e6) or (intercept and abs(intercept[0]) > 1e6):
            raise InputError(f"{item.path} has no usable rescale slope and intercept; export the series again")
        given.add(slope is not None)
    if len(given) > 1:
        raise InputError(f"{path} gives a rescale slope for some of its slices only; export the series again")


def check_pixels(item: Slice) -> None:
    """Raise InputError unless the file holds as many bytes of pixels as its header promises."""
    frames = integer(item.path, item.header, "NumberOfFrames", 1) or 1
    bits = integer(item.path, item.header, "BitsAllocated")
    stored = integer(item.path, item.header, "BitsStored", bits)
    if bits not in (8, 16, 32) or not 0 < stored <= bits:
        raise InputError(f"{item.path} has pixels of {stored} in {bits} bits, which no CT has; export the series again")
    needed = frames * int(item.header.Rows) * int(item.header.Columns) * bits // 8
    try:
        data = pydicom.dcmread(item.path, force=True, specific_tags=["PixelData"])
        pixels = data.get_item("PixelData").value  # type: ignore[union-attr]
        packed = _is_encapsulated(data)
        complete = len(pixels) > 0 and pixels[:4] == _ITEM if packed else needed <= len(pixels) <= needed + 1
    except Exception as error:  # as in dicom_headers.read_header
        raise InputError(f"{item.path} has no pixels, or damaged ones; copy the series again") from error
    if not complete:
        raise InputError(f"{item.path} is truncated or its pixels cannot be decoded; copy the series again")


def is_compressed(file: Path) -> bool:
    """Whether a file whose pixels were read holds them in a compressed coding."""
    return _is_encapsulated(pydicom.dcmread(file, force=True, specific_tags=["Rows"], stop_before_pixels=True))


def _is_encapsulated(data: pydicom.FileDataset) -> bool:
    return bool(data.file_meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian).is_encapsulated)


def odd_slices(slices: list[Slice], voxels: np.ndarray, surplus: np.ndarray) -> list[str]:
    """A note where slices differ from their neighbours as no anatomy does: pixels that decoded to other values.

    Args:
        slices: in order.
        voxels: (slices, rows, columns) in HU.
        surplus: of each slice, as ``count_surplus`` counts; a series is coded by one coder, in one way.
    """
    if len(voxels) < 5:
        return []
    clipped = np.clip(voxels, -1024, 3071)
    rough = np.array(
        [np.abs(np.diff(plane, axis=0)).mean() + np.abs(np.diff(plane, axis=1)).mean() for plane in clipped]
    )
    around = np.maximum([rough[1], *rough[:-1]], [*rough[1:], rough[-2]])  # the rougher neighbour
    noisy = rough > _ROUGHER * around + _ROUGHER_HU
    usual = np.median(surplus)
    away = np.abs(surplus - usual)
    unlike = away > _ODD_BYTES + abs(usual) + 10 * np.median(away)
    rows = np.abs(np.diff(clipped, axis=1)).mean(axis=2)
    flat = np.ptp(clipped, axis=2) == 0  # of padding, which ends elsewhere in every slice of a tilted volume
    rows[flat[:, 1:] | flat[:, :-1]] = 0
    step = rows.max(axis=1)
    beside = np.maximum([step[1], *step[:-1]], [*step[1:], step[-2]])
    streaked = step > _STREAK * beside + _STREAK_HU
    odd = np.flatnonzero(noisy | streaked | unlike)
    if not len(odd):
        return []
    names = ", ".join(str(to_int(slices[k].header.get("InstanceNumber")) or k + 1) for k in odd[:5])
    return [f"Slices unlike their neighbours (instance {names}): their pixels may be damaged, look at them."]
