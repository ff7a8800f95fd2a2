"""What every kind of data set gives: patients, named before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.volumes.reading import read_volume


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
class RawCase:
    """One patient (or one pair of volumes of a patient) that has not been read yet.

    Attributes:
        id: unique in the data set.
        centre: where it was scanned, "" where unknown; a split keeps the shares of every centre.
        load: reads the volumes; InputError where a file is damaged.
        files: what ``load`` reads, for the content hash; empty for phantoms, which ``id`` and grid decide.
        patient: who it is, where two cases may be of one patient; None: ``id`` itself.
    """

    id: str
    centre: str
    load: Callable[[], RawPair]
    files: tuple[Path, ...] = ()
    patient: str | None = None


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
