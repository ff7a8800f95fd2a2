"""Voxels of nodes into files that the child reads: written in pieces, exact, and kept until the node changes."""

from __future__ import annotations

import contextlib
import shutil
import sys
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from DiffMaSlicerLib.jobs.job import FREE_SPACE, JobError
from DiffMaSlicerLib.mrml.geometry import RAS_TO_LPS, ijk_to_ras
from DiffMaSlicerLib.mrml.voxels import pieces, voxels_of

_NRRD_TYPES = {
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "int64": "int64",
    "uint64": "uint64",
    "float32": "float",
    "float64": "double",
}


def nrrd_header(shape: tuple[int, ...], dtype: np.dtype, ijk_to_ras_matrix: np.ndarray) -> bytes:
    """Header of a raw NRRD of ``shape`` (z, y, x); every number is written so that it reads back the same.

    Raises:
        JobError: a voxel type that NRRD does not have.
    """
    kind = _NRRD_TYPES.get(dtype.name)
    if kind is None:
        cause = _("the volume holds voxels of type {name}").format(name=dtype.name)
        raise JobError(cause, "InputError", _("Cast it to float first."))
    lps = RAS_TO_LPS @ ijk_to_ras_matrix
    columns = [_vector(lps[:3, axis]) for axis in range(3)]
    lines = [
        "NRRD0004",
        f"type: {kind}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in shape[::-1])}",
        f"space directions: {' '.join(columns)}",
        "kinds: domain domain domain",
        *([f"endian: {sys.byteorder}"] if dtype.itemsize > 1 else []),
        "encoding: raw",
        f"space origin: {_vector(lps[:3, 3])}",
    ]
    return ("\n".join(lines) + "\n\n").encode("ascii")


def write_nrrd(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    matrix: np.ndarray,
    part: Callable[[slice], np.ndarray],
    planes_at_once: int | None = None,
) -> Generator[object, None, Any]:
    """Write a volume piece by piece.

    Args:
        path: of the file; removed again if anything goes wrong.
        shape: (z, y, x).
        dtype: of the voxels.
        matrix: (4, 4) IJK to RAS.
        part: gives the voxels of a range of z.
        planes_at_once: length of such a range; None is what a few milliseconds copy.

    Raises:
        JobError: the disk is full or cannot be written.
    """
    done = False
    try:
        with path.open("wb", buffering=0) as stream:
            stream.write(nrrd_header(shape, dtype, matrix))
            for chosen in pieces(shape, dtype.itemsize, planes_at_once):
                data = np.ascontiguousarray(part(chosen)).data.cast("B")
                while data:
                    data = data[stream.write(data) :]
                yield None
        done = True
    except OSError as error:
        cause = _("the volume could not be written for the model's program ({reason})").format(reason=error.strerror)
        raise JobError(cause, "OutputError", FREE_SPACE) from None
    finally:
        if not done:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


@dataclass
class _Export:
    """A file of a node as it was, and how many jobs need it."""

    version: tuple[object, ...]
    path: Path
    users: int = 0


class VolumeFiles:
    """Files of volume nodes, shared by all jobs: one node is written once, until it changes.

    Args:
        make_folder: makes a new private folder.
    """

    def __init__(self, make_folder: Callable[[], Path]) -> None:
        self._make_folder = make_folder
        self._folder: Path | None = None
        self._remove: weakref.finalize | None = None
        self._exports: dict[str, _Export] = {}
        self._outdated: list[_Export] = []
        self._count = 0

    def acquire(self, node: Any) -> Generator[object, None, Any]:
        """Write ``node`` unless a file of it as it is exists; returns the path, which ``release`` gives back.

        The geometry is the node's own, without the transforms above it.

        Raises:
            JobError: no voxels, more than one value per voxel, changed meanwhile, or no space.
        """
        version = _version(node)
        known = self._exports.get(node.GetID())
        if known is not None and known.version == version and known.path.is_file():
            known.users += 1
            return known.path
        image = node.GetImageData()
        array = voxels_of(image)
        path = self._new_path()

        def part(chosen: slice) -> np.ndarray:
            if _version(node) != version:
                cause = _("the volume was changed while it was being read")
                raise JobError(cause, "InputError", _("Press Apply again."))
            return array[chosen]

        yield from write_nrrd(path, array.shape, array.dtype, ijk_to_ras(node), part)
        self._retire(node.GetID())
        self._exports[node.GetID()] = _Export(version, path, 1)
        return path

    def release(self, path: Path) -> None:
        """A job needs ``path`` no longer; a file of a node that changed is removed with its last user."""
        for export in [*self._exports.values(), *self._outdated]:
            if export.path == path:
                export.users -= 1
        self._sweep()

    def forget(self, node_id: str) -> None:
        """The node is gone or changed: its file goes as soon as nobody needs it."""
        self._retire(node_id)

    def clear(self) -> None:
        """Remove every file at once."""
        self._exports.clear()
        self._outdated.clear()
        if self._remove is not None:
            self._remove()
        self._folder = self._remove = None

    def _new_path(self) -> Path:
        if self._folder is None or not self._folder.is_dir():
            try:
                self._folder = self._make_folder()
                # nobody has to call clear: it goes with this object, or with the program
                self._remove = weakref.finalize(self, shutil.rmtree, self._folder, True)
            except OSError as error:
                cause = _("no temporary folder could be made ({reason})").format(reason=error.strerror)
                raise JobError(cause, "OutputError", FREE_SPACE) from None
        self._count += 1
        return self._folder / f"volume_{self._count}.nrrd"

    def _retire(self, node_id: str) -> None:
        export = self._exports.pop(node_id, None)
        if export is not None:
            self._outdated.append(export)
        self._sweep()

    def _sweep(self) -> None:
        for export in [old for old in self._outdated if old.users <= 0]:
            with contextlib.suppress(OSError):
                export.path.unlink(missing_ok=True)
            self._outdated.remove(export)


def _version(node: Any) -> tuple[object, ...]:
    """Changes whenever voxels or geometry of ``node`` do."""
    image = node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image else None
    if scalars is None or min(image.GetDimensions()) < 1:
        raise JobError(_("the volume holds no voxels"), "InputError", _("Choose or load another volume."))
    if image.GetNumberOfScalarComponents() != 1:
        raise JobError(_("the volume has several values per voxel"), "InputError", _("Choose a CT in HU."))
    return (image.GetMTime(), scalars.GetMTime(), tuple(ijk_to_ras(node).ravel()))


def _vector(values: np.ndarray) -> str:
    # adding 0.0 turns -0.0 into 0.0
    return f"({','.join(repr(float(value) + 0.0) for value in values)})"
