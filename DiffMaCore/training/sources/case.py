"""What every kind of data set gives: patients, named before anything is read, and what their names tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.reading import read_volume
from DiffMaCore.training.experiment import CT, DataConfig

_SYNTHRAD = re.compile(
    r"(?<![A-Za-z0-9])[12](AB|HN|TH|B|P)([A-Z])\d{3}(?![A-Za-z0-9])"
)  # 1BA001 (2023), 1ABA005 (2025)
_ANATOMIES = {"B": "brain", "P": "pelvis", "AB": "abdomen", "HN": "head neck", "TH": "thorax"}


@dataclass(frozen=True)
class RawPair:
    """One patient's volumes as stored, float32; ``mask`` (body, uint8) is None where the data set has none.

    A CT is in HU, every other modality in its own units. ``check_case`` tells whether they share one grid.
    ``notes`` say what the reader chose, repaired or left out.
    """

    source: sitk.Image
    target: sitk.Image
    mask: sitk.Image | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseSlices:
    """Slices of one patient."""

    source: NDArray[np.float32]  # (N, S, S), HU of a CT, [-1, 1] of every other modality
    target: NDArray[np.float32]  # likewise
    body: NDArray[np.bool_]  # (N, S, S), the data set's mask or else the source's body
    index: NDArray[np.int64]  # (N), the planes of the volume
    spacing: float  # mm from one plane to the next, negative where they follow each other downwards
    notes: list[str]  # what was repaired or left out


@dataclass(frozen=True)
class RawCase:
    """One patient (or one pair of volumes of a patient) that has not been read yet."""

    id: str  # unique in the data set
    centre: str  # where it was scanned, "" where unknown; a split keeps the shares of every centre
    load: Callable[[], RawPair | CaseSlices]  # reads the volumes, or renders slices; InputError for a damaged file
    files: tuple[Path, ...] = ()  # what load reads, for the content hash
    patient: str | None = None  # who it is, where two cases may be of one patient; None: the id itself
    contrast: int = 0  # which of DataConfig.targets its target is


def read_pair(data: DataConfig, source: Path, target: Path, mask: Path | None = None) -> RawPair:
    """The volumes of one case, each on the grid of its file.

    Raises InputError where a file is missing, damaged, or a DICOM series of another modality.
    """
    volumes = [
        read_volume(path, modality="CT" if modality == CT else None)
        for path, modality in ((source, data.source), (target, data.target))
    ]
    notes = [note for volume in volumes for note in volume.notes]
    labels = None if mask is None else sitk.NotEqual(read_volume(mask, modality=None).image, 0.0)
    return RawPair(volumes[0].image, volumes[1].image, labels, tuple(notes))


def synthrad_id(text: str) -> str | None:
    """The SynthRAD patient that ``text`` names, such as 1BA001, if it names one."""
    found = _SYNTHRAD.search(text.replace("_", " "))
    return found.group(0) if found else None


def centre_of(case_id: str) -> str:
    """The centre letter of a SynthRAD patient (A, B, C, ...); "" for any other name."""
    found = _SYNTHRAD.search(case_id)
    return found.group(2) if found else ""


def of_anatomy(names: Iterable[str], given: Path, data: DataConfig) -> set[str]:
    """Those of the names that may be of the experiment's part of the body: all but those that say another.

    SynthRAD patients (1BA001: brain) and names that begin with a part of the body (pelvis_11) say it. Raises
    InputError where none is left of what was ``given``.
    """
    names = list(names)
    wanted = _plain(data.anatomy)
    if wanted not in _ANATOMIES.values():
        return set(names)
    kept = {name for name in names if wanted in (_said(name) or [wanted])}
    if not kept:
        raise InputError(
            f"{given} holds no case of the anatomy {data.anatomy!r} ({names[0]} and {len(names) - 1} more are of"
            " another); give those of that part of the body, or correct data: anatomy"
        )
    return kept


def _said(name: str) -> list[str]:
    found = _SYNTHRAD.search(name)
    if found:
        return [_ANATOMIES[found.group(1)]]
    return [known for known in _ANATOMIES.values() if re.match(rf"{known}(?![a-z])", _plain(name))]


def _plain(text: str) -> str:
    words = re.split(r"[\s_\-]+", text.lower())
    return " ".join(word for word in words if word != "and")
