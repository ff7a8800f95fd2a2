"""A label volume or a range of slices in, the part of a CT to convert out."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.files import is_volume_file
from DiffMaCore.imaging.grid import same_grid
from DiffMaCore.imaging.reading import read_image_file


def read_mask(path: str | Path, like: sitk.Image) -> tuple[sitk.Image, list[str]]:
    """Read a label volume onto the grid of ``like``: uint8, 1 where any label is, and notes.

    A mask on another grid is resampled by nearest neighbour through physical space, with a note.

    Raises:
        InputError: unreadable, empty, or nowhere on the CT.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"the mask {path} does not exist; check the spelling of the path")
    if not is_volume_file(path):
        raise InputError(f"the mask {path} is no label volume; give a .nii.gz, .nrrd or .mha file")
    labels, _ = read_image_file(path)
    mask = sitk.NotEqual(labels, 0.0)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise InputError(f"the mask {path} is empty; choose one with at least one label")
    notes = []
    if not same_grid(mask, like):
        mask = sitk.Resample(mask, like, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
        notes.append("The mask has another grid than the CT: it was resampled to the CT's (nearest).")
        if not sitk.GetArrayViewFromImage(mask).any():
            raise InputError(f"the mask {path} does not overlap the CT; choose a mask of this CT")
    result = sitk.Cast(mask, sitk.sitkUInt8)
    result.CopyInformation(like)
    return result, notes


def parse_slices(text: str, n_slices: int) -> tuple[int, int]:
    """First and one past the last slice of ``A:B``, as in Python (sides may be empty or negative).

    Raises:
        InputError: not of that form, or no slice left.
    """
    start, colon, stop = text.partition(":")
    try:
        if not colon:
            raise ValueError
        chosen = range(n_slices)[slice(_number(start), _number(stop))]
    except ValueError:
        raise InputError(f"--slices {text} is not of the form A:B; write for example 10:20") from None
    if not len(chosen):
        raise InputError(f"--slices {text} chooses no slice; the CT has slices 0:{n_slices}")
    return chosen.start, chosen.stop


def _number(text: str) -> int | None:
    return int(text) if text.strip() else None
