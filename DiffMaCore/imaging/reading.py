"""Read a CT volume from NIfTI, NRRD, MetaImage or DICOM as HU, with the geometry exactly as stored."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import InputError, OutOfMemory, is_out_of_memory
from DiffMaCore.imaging import nifti, nrrd
from DiffMaCore.imaging.dicom import DicomSource, read_dicom_series
from DiffMaCore.imaging.dicom_headers import is_dicom
from DiffMaCore.imaging.dicom_headers import list_series as list_series

sitk.ProcessObject_SetGlobalWarningDisplay(False)  # what matters becomes a note; stderr stays the user's

VOLUME_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""File names that are read as volumes, in lower case."""

_FLOATS = (sitk.sitkFloat32, sitk.sitkFloat64)
_IO = {"nii": "NiftiImageIO", "nii.gz": "NiftiImageIO", "nrrd": "NrrdImageIO", "nhdr": "NrrdImageIO"}


@dataclass(frozen=True)
class Volume:
    """One CT as read: float32 HU on the grid of the file.

    Attributes:
        image: three-dimensional, float32; size, spacing (mm), origin and direction (LPS) as in the file.
        notes: sentences to say aloud to the user: what was chosen, repaired or resampled.
        resampled: True when the voxels had to be moved to a regular grid (tilted or uneven DICOM series).
        dicom: where a derived DICOM series takes its patient and study from; None for other formats.
    """

    image: sitk.Image
    notes: list[str] = field(default_factory=list)
    resampled: bool = False
    dicom: DicomSource | None = None


def is_volume_file(path: Path) -> bool:
    """Whether the name of ``path`` ends like a volume this package reads (DICOM files aside)."""
    return path.name.lower().endswith(VOLUME_EXTENSIONS)


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
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; check the spelling of the path")
    if path.is_dir() or (not is_volume_file(path) and is_dicom(path)):
        image, notes, resampled, source = read_dicom_series(path, series, modality=modality)
        return Volume(image, notes, resampled, source)
    if not is_volume_file(path):
        raise InputError(f"{path} is no image this program reads; give a NIfTI, NRRD, MHA or DICOM file or folder")
    if series is not None:
        raise InputError(f"{path} is not DICOM and has no series to choose from; leave out --series")
    image, notes = read_image_file(path)
    return Volume(image, notes)


def read_image_file(path: Path, pixel_type: int = sitk.sitkFloat32) -> tuple[sitk.Image, list[str]]:
    """Read a NIfTI, NRRD or MetaImage file as one 3D grey-value image of ``pixel_type``, and notes.

    Raises:
        InputError: unreadable, truncated, 4D, colour, empty, or without a usable geometry.
    """
    notes: list[str] = []
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); copy or export it again")
    finite = True
    header = nifti.read_header(path) if path.name.lower().endswith((".nii", ".nii.gz")) else None
    if path.name.lower().endswith((".nii", ".nii.gz")):
        if header is None:
            raise InputError(f"{path} is no intact NIfTI-1 file; copy it again or save it as .nrrd")
        finite = nifti.check_complete(path, header)
    elif path.name.lower().endswith((".mha", ".mhd")):
        _check_meta_complete(path)
    image = None
    try:
        _check_shape(path, _image_information(path))
        image = sitk.ReadImage(str(path), pixel_type, imageIO=_io(path))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise OutOfMemory() from error
        if header is None or "orthonormal" not in str(error):
            message = f"{path} cannot be read ({_reason(error)}); copy or export it again"
            raise InputError(message) from error
    if header is not None and image is not None and not finite and image.GetPixelID() in _FLOATS:
        image = nifti.restore_not_finite(image, path, header)
    if image is None and header is not None:
        image = sitk.Cast(nifti.read_with_nearest_orthogonal(path, header), pixel_type)
        notes.append("The axes in the file's sform are slightly sheared: the nearest perpendicular axes are used.")
    assert image is not None
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
        notes.append("The file is 4D with a single time point: it is taken as a 3D volume.")
    _check_geometry(path, image)
    if header:
        if nifti.sform_shift(header, image) > 0.5:
            notes.append("The file's sform and qform differ: the geometry of the qform is used, as 3D Slicer does.")
        image.SetMetaData(nifti.GEOMETRY_KEY, header.geometry.hex())
    elif path.name.lower().endswith((".nrrd", ".nhdr")) and (lines := nrrd.read_geometry(path)):
        image.SetMetaData(nrrd.GEOMETRY_KEY, lines)
    return image, notes


def _io(path: Path) -> str:
    name = path.name.lower()
    return next((io for end, io in _IO.items() if name.endswith("." + end)), "MetaImageIO")


def _image_information(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_io(path))
    reader.ReadImageInformation()
    return reader


def _reason(error: Exception) -> str:
    """The telling part of an ITK error, without ITK's own file names and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("ITK ERROR: ").rstrip(".!:") if lines else "unknown reason"


def _check_shape(path: Path, reader: sitk.ImageFileReader) -> None:
    size = reader.GetSize()
    if reader.GetNumberOfComponents() != 1:
        count = reader.GetNumberOfComponents()
        raise InputError(f"{path} has {count} values per voxel (colour or vectors); give a CT in HU")
    if len(size) < 3:
        raise InputError(f"{path} is a 2D picture of {size[0]} x {size[-1]} pixels; give a 3D CT volume")
    if len(size) > 4 or (len(size) == 4 and size[3] != 1):
        raise InputError(f"{path} is 4D with {math.prod(size[3:])} volumes; extract one 3D volume first")
    if min(size) < 1 or size[0] < 2 or size[1] < 2:
        raise InputError(f"{path} holds no volume (size {' x '.join(map(str, size))}); export it again")


def _check_geometry(path: Path, image: sitk.Image) -> None:
    direction = np.array(image.GetDirection()).reshape(3, 3)
    finite = np.isfinite([*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()]).all()
    if not finite or min(image.GetSpacing()) <= 0:
        raise InputError(f"{path} has no usable voxel spacing or position (zero or NaN); export it again")
    if abs(abs(np.linalg.det(direction)) - 1) > 1e-2:
        raise InputError(f"{path} has axes that are not perpendicular; resample it to an orthogonal grid")


def _check_meta_complete(path: Path) -> None:
    """Raise InputError if a MetaImage lacks voxels (ITK would print to stderr and blame a missing file)."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        for raw in iter(lambda: stream.readline(65536), b""):
            name, separator, value = raw.decode("latin-1").partition("=")
            if not separator:
                break
            fields[name.strip()] = value.strip()
            if name.strip() == "ElementDataFile":
                break
        start = stream.tell()
    name = fields.get("ElementDataFile", "")
    if not name:
        raise InputError(f"{path} is truncated or no MetaImage (its header ends early); copy or export it again")
    if name.upper().startswith("LIST") or "%" in name:
        return
    local = name.upper() == "LOCAL"
    data = path if local else path.parent / name
    if not data.is_file():
        raise InputError(f"{path} needs the file {name} beside it; put both into one folder")
    sizes = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
    element = fields.get("ElementType", "").removeprefix("MET_").replace("UCHAR", "CHAR").replace("USHORT", "SHORT")
    try:
        if fields.get("CompressedData", "").lower() == "true":
            needed = int(fields.get("CompressedDataSize", "0"))
        else:
            voxels = math.prod(int(n) for n in fields.get("DimSize", "0").split())
            needed = voxels * int(fields.get("ElementNumberOfChannels", "1")) * sizes.get(element.removeprefix("U"), 0)
    except ValueError as error:
        raise InputError(f"{path} has a damaged header; copy or export it again") from error
    if data.stat().st_size - (start if local else 0) < needed:
        raise InputError(f"{path} is truncated or damaged (voxels are missing); copy or export it again")
