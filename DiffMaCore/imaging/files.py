"""Read a NIfTI, NRRD or MetaImage file; ``reading`` does it in a child process."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import InputError, is_out_of_memory
from DiffMaCore.imaging import nifti, text_headers
from DiffMaCore.imaging.stored import Stored, corner_shift, read_voxels

VOLUME_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""File names that are read as volumes, in lower case."""

_NEVER_MM = 1e5  # no scanner's table is 100 m long
_MOST_MOVED = 0.5  # voxels


def is_volume_file(path: Path) -> bool:
    """Whether the name of ``path`` ends like a volume this package reads (DICOM files aside)."""
    return path.name.lower().endswith(VOLUME_EXTENSIONS)


def is_dicom(path: Path) -> bool:
    """Whether ``path`` begins as DICOM does, with or without the preamble and whatever its name."""
    try:
        if not path.is_file() or path.name.upper() == "DICOMDIR":
            return False
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    # without a preamble: an element of the group 0002 or 0008, whose numbers are low
    return start[128:] == b"DICM" or (len(start) == 132 and start[:2] in (b"\2\0", b"\10\0") and start[3] == 0)


def read_image_file(path: Path) -> tuple[sitk.Image, list[str]]:
    """One 3D grey-value image, float32, and notes.

    Raises:
        InputError: unreadable, truncated, 4D, colour, empty, or without a usable geometry.
    """
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); copy or export it again")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError("the file's name is no UTF-8 text, which image readers cannot open; rename it") from None
    notes: list[str] = []
    name, header = path.name.lower(), None
    if name.endswith((".nii", ".nii.gz")):
        header, io = nifti.read_header(path), "NiftiImageIO"
        if header is None:
            raise InputError(f"{path} is no intact NIfTI-1 file; copy it again or save it as .nrrd")
        stored = header.stored
    elif name.endswith((".nrrd", ".nhdr")):
        stored, io = text_headers.read_nrrd_header(path), "NrrdImageIO"
    else:
        stored, io = text_headers.read_meta_header(path), "MetaImageIO"
    try:
        reader = image_information(path, io)
        _check_shape(path, reader)
        like: sitk.Image | sitk.ImageFileReader = reader
    except RuntimeError as error:
        if header is None or "orthonormal" not in str(error):
            raise _unreadable(path, error) from error
        like = nifti.nearest_orthogonal(path, header)
        notes.append("The axes in the file's sform are slightly sheared: the nearest perpendicular axes are used.")
    if len(like.GetSize()) == 4:
        notes.append("The file is 4D with a single time point: it is taken as a 3D volume.")
    image = _image(path, stored, like, io)
    _check_place(path, image, stored)
    if header is not None:
        if header.sform is not None and corner_shift(header.sform, image) > _MOST_MOVED:
            notes.append("The file's sform and qform differ: the geometry of the qform is used, as 3D Slicer does.")
        image.SetMetaData(nifti.GEOMETRY_KEY, header.geometry.hex())
    elif io == "NrrdImageIO" and (lines := text_headers.read_geometry(path)):
        image.SetMetaData(text_headers.GEOMETRY_KEY, lines)
    return image, notes


def image_information(path: Path, io: str) -> sitk.ImageFileReader:
    """What ITK makes of a header; RuntimeError where nothing."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(io)
    reader.ReadImageInformation()
    return reader


def _image(path: Path, stored: Stored | None, like: sitk.Image | sitk.ImageFileReader, io: str) -> sitk.Image:
    """The voxels on the grid of ``like``, 3D."""
    if stored is None:  # a rare coding
        try:
            image = sitk.ReadImage(str(path), sitk.sitkFloat32, imageIO=io)
        except RuntimeError as error:
            raise _unreadable(path, error) from error
        return image[:, :, :, 0] if image.GetDimension() == 4 else image
    if like.GetSize()[:3] != stored.shape[:3]:
        raise InputError(f"{path} has a header that contradicts itself (its size); copy or export it again")
    n = len(like.GetSize())
    image = sitk.GetImageFromArray(read_voxels(path, stored))
    image.SetSpacing(like.GetSpacing()[:3])
    image.SetOrigin(like.GetOrigin()[:3])
    image.SetDirection(np.reshape(like.GetDirection(), (n, n))[:3, :3].ravel().tolist())
    return image


def _unreadable(path: Path, error: Exception) -> Exception:
    """With the part of an ITK error that says what is wrong, without ITK's own file names and addresses."""
    if is_out_of_memory(error):
        return MemoryError()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1].removeprefix("ITK ERROR: ").rstrip(".!:")[:200] if lines else "unknown reason"
    return InputError(f"{path} cannot be read ({reason}); copy or export it again")


def _check_shape(path: Path, reader: sitk.ImageFileReader) -> None:
    size = reader.GetSize()
    if reader.GetNumberOfComponents() != 1:
        count = reader.GetNumberOfComponents()
        raise InputError(f"{path} has {count} values per voxel (colour or vectors); give a CT in HU")
    if len(size) < 2:
        raise InputError(f"{path} is no image (it has {len(size)} axes); give a 3D CT volume")
    if len(size) < 3:
        raise InputError(f"{path} is a 2D picture of {size[0]} x {size[-1]} pixels; give a 3D CT volume")
    if len(size) > 4 or (len(size) == 4 and size[3] != 1):
        raise InputError(f"{path} is 4D with {math.prod(size[3:])} volumes; extract one 3D volume first")
    if min(size) < 1 or size[0] < 2 or size[1] < 2:
        raise InputError(f"{path} holds no volume (size {' x '.join(map(str, size))}); export it again")


def _check_place(path: Path, image: sitk.Image, stored: Stored | None) -> None:
    direction = np.array(image.GetDirection()).reshape(3, 3)
    finite = np.isfinite([*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()]).all()
    if not finite or min(image.GetSpacing()) <= 0 or np.abs(image.GetOrigin()).max() > _NEVER_MM:
        raise InputError(f"{path} has no usable voxel spacing or position (zero, NaN or far away); export it again")
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-2:
        raise InputError(f"{path} has axes that are not perpendicular; resample it to an orthogonal grid")
    affines = stored.affines if stored else ()
    if affines and min(corner_shift(affine, image) for affine in affines) > _MOST_MOVED:
        raise InputError(f"{path} has axes or a position that no image can have as they stand; export it again")
