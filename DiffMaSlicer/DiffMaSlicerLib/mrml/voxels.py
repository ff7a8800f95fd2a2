"""Voxels of volume nodes as numpy arrays, new images filled piece by piece, and results read from NIfTI."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from DiffMaSlicerLib.jobs.job import JobError

PIECE_BYTES = 4 << 20
"""How much is copied at once: a few milliseconds."""


def voxels_of(image: Any) -> np.ndarray:
    """The voxels (z, y, x) of a vtkImageData with one value each; a view, not a copy."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def pieces(shape: tuple[int, ...], bytes_per_voxel: int, planes: int | None = None) -> Iterator[slice]:
    """Ranges of the first axis of an array, each of so many ``planes``, or about ``PIECE_BYTES``."""
    plane = max(1, int(np.prod(shape[1:], dtype=np.int64)) * bytes_per_voxel)
    step = planes or max(1, PIECE_BYTES // plane)
    for first in range(0, shape[0], step):
        yield slice(first, min(first + step, shape[0]))


def new_image(shape: tuple[int, int, int], value: float) -> Generator[object, None, Any]:
    """Make a float vtkImageData of ``shape`` (z, y, x) with ``value`` everywhere, piece by piece; returns it."""
    image = allocate(shape)
    array = voxels_of(image)
    for part in pieces(array.shape, 4):
        array[part] = value
        yield None
    return image


def allocate(shape: tuple[int, int, int]) -> Any:
    """A float vtkImageData of ``shape`` (z, y, x) whose voxels are not set yet."""
    image = vtk.vtkImageData()
    image.SetDimensions(*(int(n) for n in shape[::-1]))
    image.AllocateScalars(vtk.VTK_FLOAT, 1)
    return image


def copy_into(target: np.ndarray, source: np.ndarray) -> Generator[object, None, Any]:
    """Copy ``source`` into ``target``, piece by piece."""
    for part in pieces(target.shape, target.itemsize):
        target[part] = source[part]
        yield None


def tell_modified(node: Any) -> None:
    """The voxels of ``node`` were changed in place: views draw it anew."""
    node.GetImageData().GetPointData().GetScalars().Modified()
    node.GetImageData().Modified()


@dataclass(frozen=True)
class NiftiResult:
    """A file that the child wrote: float32 voxels (z, y, x), mapped and not read, and (4, 4) IJK to RAS."""

    voxels: np.ndarray
    ijk_to_ras: np.ndarray


def open_result(path: Path) -> NiftiResult:
    """Open an uncompressed float32 NIfTI-1 of the child's.

    Raises:
        JobError: it is missing or something else.
    """
    try:
        with path.open("rb") as stream:
            header = stream.read(348)
        (size,) = struct.unpack_from("<i", header, 0)
        dimensions = struct.unpack_from("<8h", header, 40)
        (kind,) = struct.unpack_from("<h", header, 70)
        (offset,) = struct.unpack_from("<f", header, 108)
        affine = np.vstack([np.array(struct.unpack_from("<12f", header, 280)).reshape(3, 4), [0, 0, 0, 1]])
        if size != 348 or kind != 16 or dimensions[0] < 3:
            raise ValueError("no float32 volume")
        shape = tuple(int(n) for n in dimensions[3:0:-1])
        voxels = np.memmap(path, "<f4", "r", int(offset), shape)
    except (OSError, ValueError, struct.error) as error:
        cause = _("the result of the model's program cannot be read ({reason})").format(reason=error)
        raise JobError(cause, "OutputError", _("Free some space on the disk of the temporary folder.")) from None
    return NiftiResult(voxels, affine)
