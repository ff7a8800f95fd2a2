"""What every kind of data set gives: patients, named before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from DiffMaCore.imaging.reading import read_volume
from DiffMaCore.training.experiment import DataConfig


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
    """Slices of one patient.

    Attributes:
        source, target: float32 (N, S, S), HU of a CT, [-1, 1] of every other modality.
        body: bool (N, S, S), the data set's mask or else the source's body.
        index: int64 (N), the planes of the volume.
        spacing: mm from one plane to the next, negative where they follow each other downwards.
        notes: what was repaired or left out.
    """

    source: NDArray[np.float32]
    target: NDArray[np.float32]
    body: NDArray[np.bool_]
    index: NDArray[np.int64]
    spacing: float
    notes: list[str]


@dataclass(frozen=True)
class RawCase:
    """One patient (or one pair of volumes of a patient) that has not been read yet.

    Attributes:
        id: unique in the data set.
        centre: where it was scanned, "" where unknown; a split keeps the shares of every centre.
        load: reads the volumes, or renders slices; InputError where a file is damaged.
        files: what ``load`` reads, for the content hash.
        patient: who it is, where two cases may be of one patient; None: ``id`` itself.
        contrast: which of ``DataConfig.targets`` its target is.
    """

    id: str
    centre: str
    load: Callable[[], RawPair | CaseSlices]
    files: tuple[Path, ...] = ()
    patient: str | None = None
    contrast: int = 0


def read_pair(source: Path, target: Path, mask: Path | None, data: DataConfig) -> RawPair:
    """The volumes of one case, each on the grid of its file.

    Raises InputError where a file is missing, damaged, or a DICOM series of another modality.
    """
    volumes = [
        read_volume(path, modality="CT" if modality == "ct" else None)
        for path, modality in ((source, data.source), (target, data.target))
    ]
    notes = [note for volume in volumes for note in volume.notes]
    labels = None if mask is None else sitk.NotEqual(read_volume(mask, modality=None).image, 0.0)
    return RawPair(volumes[0].image, volumes[1].image, labels, tuple(notes))
