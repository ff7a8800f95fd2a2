"""Paired 8-bit slices: one ``.npz`` a patient, one array (slices, rows, columns) a modality, and perhaps a mask."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from DiffMaCore.errors import InputError
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.sources.case import RawCase, RawPair
from DiffMaCore.training.sources.naming import centre_of, of_anatomy
from DiffMaCore.training.sources.slices import picture_body, stack, windowed_ct


def cases_of_npz(files: list[Path], given: Path, data: DataConfig) -> list[RawCase]:
    """One case a file of the experiment's part of the body (files whose name says another are passed over).

    Raises InputError naming the first file that is damaged or lacks a modality.
    """
    wanted = [path for path in files if of_anatomy(path.stem, data.anatomy)]
    if not wanted:
        raise InputError(
            f"{given} holds no case of the anatomy {data.anatomy!r} ({files[0].name} says another);"
            " give other files, or correct data: anatomy"
        )
    for path in wanted:
        held = _names(path)
        missing = [name for name in (data.source, data.target) if name not in held]
        if missing:
            raise InputError(
                f"{path} has no array {' and '.join(missing)} but {', '.join(held)};"
                " set data: source and target to two of these"
            )
    return [RawCase(path.stem, centre_of(path.stem), partial(_load, path, data), (path,)) for path in wanted]


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        raise InputError(f"{path} is no intact .npz file; copy it again") from None


def _load(path: Path, data: DataConfig) -> RawPair:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in (data.source, data.target)}
            mask = archive.get("mask")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as problem:
        raise InputError(f"{path} cannot be read ({problem}); copy it again") from None
    for name, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim != 3:
            raise InputError(
                f"{path}: the array {name} is {array.dtype} of shape {array.shape}; uint8 (slices, rows, columns) is"
                " needed (name volumes with units in a CSV instead)"
            )
    shown = arrays["ct" if "ct" in arrays else data.source]
    body = mask > 0 if mask is not None else picture_body(_unit(shown))
    if body.shape != shown.shape:
        raise InputError(f"{path}: the mask has the shape {body.shape}, the images {shown.shape}; correct the mask")
    values = [
        windowed_ct(_unit(array), body, data) if name == "ct" else array.astype(np.float32)
        for name, array in arrays.items()
    ]
    labels = sitk.Cast(stack(body.astype(np.float32), data), sitk.sitkUInt8)
    return RawPair(stack(values[0], data), stack(values[1], data), labels)


def _unit(array: NDArray[np.uint8]) -> NDArray[np.float32]:
    return array.astype(np.float32) / np.float32(255)
