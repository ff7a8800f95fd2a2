"""Read a CT volume from NIfTI, NRRD, MetaImage or DICOM as HU, with the geometry exactly as stored.

Everything is read in a child process (``reader``): a damaged file may crash, hang or fill it, and is one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging import reader
from DiffMaCore.imaging.files import is_dicom, is_volume_file

if TYPE_CHECKING:
    from DiffMaCore.imaging.dicom import DicomSource


@dataclass(frozen=True)
class Volume:
    """One CT as read: float32 HU on the grid of the file.

    Attributes:
        image: three-dimensional, float32; size, spacing (mm), origin and direction (LPS) as in the file.
        notes: sentences for the user: what was chosen, repaired or resampled.
        resampled: True when the voxels had to be moved to a regular grid (tilted or uneven DICOM series).
        dicom: where a derived DICOM series takes its patient and study from; None for other formats.
    """

    image: sitk.Image
    notes: list[str] = field(default_factory=list)
    resampled: bool = False
    dicom: DicomSource | None = None


def read_volume(path: str | Path, series: str | int | None = None, *, modality: str | None = "CT") -> Volume:
    """Read ``path``: a NIfTI, NRRD or MetaImage file, or a DICOM file or folder.

    Args:
        path: the file; or a folder with DICOM files, at any depth, whatever their names.
        series: which series of a DICOM folder, by the number shown by ``list_series``, by
            series number or by the end of its UID; needed only where there are several.
        modality: the modality that a DICOM series must have; None accepts any.

    Raises:
        InputError: missing, unreadable, truncated, not a single 3D grey-value volume, or ambiguous.
    """
    path = _existing(path)
    if path.is_dir() or (not is_volume_file(path) and is_dicom(path)):
        from DiffMaCore.imaging.dicom import unpack_source

        answer = reader.ask("series", path, series=series, modality=modality)
        return Volume(answer["image"], answer["notes"], answer["resampled"], unpack_source(answer["dicom"]))
    if not is_volume_file(path):
        raise InputError(f"{path} is no image this program reads; give a NIfTI, NRRD, MHA or DICOM file or folder")
    if series is not None:
        raise InputError(f"{path} is not DICOM and has no series to choose from; leave out --series")
    image, notes = read_image_file(path)
    return Volume(image, notes)


def read_image_file(path: str | Path) -> tuple[sitk.Image, list[str]]:
    """Read a NIfTI, NRRD or MetaImage file as one 3D grey-value image, float32, and notes.

    Raises:
        InputError: unreadable, truncated, 4D, colour, empty, or without a usable geometry.
    """
    answer = reader.ask("file", _existing(path))
    return answer["image"], answer["notes"]


def read_dicom_source(path: str | Path, series: str | int | None = None) -> DicomSource:
    """What a derived series takes from a CT series; no pixels are read.

    Args:
        path: a folder, one file of the series, or a list of files (.txt, one path a line).
        series: as in ``read_volume``.

    Raises:
        InputError: no or several CT series, or no positions.
    """
    from DiffMaCore.imaging.dicom import unpack_source

    return unpack_source(reader.ask("source", _existing(path), series=series)["dicom"])


def _existing(path: str | Path) -> Path:
    path = Path(path)
    try:
        path.stat()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the spelling of the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be opened ({reason}); check the path and your permission") from None
    return path
