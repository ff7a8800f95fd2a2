"""NIfTI-1 at byte level: what ITK neither checks nor keeps (what the voxels are, exact geometry fields)."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.stored import Stored, corner_shift

GEOMETRY_KEY = "diffma_nifti_geometry"
"""Metadata key under which an image read from NIfTI carries its geometry fields, as little-endian hex."""

_FIELDS = ("4f", "2h", "3f", "3f", "12f")  # pixdim[0:4]; q/sform_code; quatern b c d; qoffset; srow x y z
_OFFSETS = (76, 252, 256, 268, 280)
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COLOURS = (32, 128, 1792, 2304)  # complex and colour, which are told apart from damage and refused as such
_FLIP = np.diag([-1.0, -1.0, 1.0])  # RAS to LPS, both ways


@dataclass(frozen=True)
class NiftiHeader:
    """The fields of a NIfTI-1 header that decide what the voxels are and where they lie.

    Attributes:
        stored: the voxels; None where they are no numbers but colours.
        sform: (3, 4) in mm, LPS, or None when the file says it is not set.
        geometry: the geometry's fields as they stand, little-endian.
    """

    stored: Stored | None
    sform: np.ndarray | None
    geometry: bytes


def open_maybe_gzip(path: Path) -> BinaryIO:
    """Open ``path`` for reading, through gzip when its first bytes say so."""
    return gzip.open(path, "rb") if _is_gzip(path) else path.open("rb")  # type: ignore[return-value]


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def read_header(path: Path) -> NiftiHeader | None:
    """Parse the header of ``path``; None for NIfTI-2 and for anything that is no intact NIfTI-1 in a single file.

    Raises:
        InputError: a position that is none.
    """
    try:
        with open_maybe_gzip(path) as stream:
            raw = stream.read(348)
    except (EOFError, OSError, zlib.error):
        return None
    order = next((o for o in "<>" if len(raw) == 348 and struct.unpack_from(o + "i", raw)[0] == 348), None)
    if order is None or raw[344:346] != b"n+":
        return None
    count, *dim = struct.unpack_from(order + "8h", raw, 40)
    (datatype,) = struct.unpack_from(order + "h", raw, 70)
    start, slope, intercept = struct.unpack_from(order + "3f", raw, 108)
    geometry = [struct.unpack_from(order + f, raw, o) for f, o in zip(_FIELDS, _OFFSETS, strict=True)]
    places = _places(geometry)
    shape = tuple(dim[: max(count, 0)])
    whole = 1 <= count <= 7 and min(shape) > 0 and np.isfinite([start, intercept]).all() and 0 <= start < 2**31
    if not whole or (datatype not in _DTYPES and datatype not in _COLOURS):
        return None
    if places is None:
        raise InputError(f"{path} has no usable voxel spacing or position (NaN or infinite); export it again")
    stored, packed = None, _is_gzip(path)
    if datatype in _DTYPES:
        stored = Stored(
            shape=shape,
            dtype=np.dtype(order + _DTYPES[datatype]),
            data=path,
            offset=0 if packed else int(start),
            packed="gzip" if packed else "",
            skip=int(start) if packed else 0,
            scale=(slope, intercept) if np.isfinite(slope) and slope != 0 else (1.0, 0.0),
            affines=places,
        )
    return NiftiHeader(
        stored=stored,
        sform=places[0] if geometry[1][1] > 0 else None,
        geometry=b"".join(struct.pack("<" + f, *v) for f, v in zip(_FIELDS, geometry, strict=True)),
    )


def _places(geometry: list[tuple[float, ...]]) -> tuple[np.ndarray, ...] | None:
    """What sform and qform say, those that are set, in mm, LPS; None where one of them is no place."""
    steps, (q_code, s_code), turns, offset, rows = geometry
    found = []
    if s_code > 0:
        found.append(_FLIP @ np.array(rows, dtype=np.float64).reshape(3, 4))
    if q_code > 0:
        v = np.array(turns, dtype=np.float64)
        with np.errstate(all="ignore"):
            a = np.sqrt(max(0.0, 1 - float(v @ v)))
            length = np.sqrt(a * a + v @ v)
            a, v = a / length, v / length
            turn = (a * a - v @ v) * np.eye(3) + 2 * np.outer(v, v) + 2 * a * np.cross(np.eye(3), v)
            scaled = turn * [steps[1], steps[2], -steps[3] if steps[0] < 0 else steps[3]]
        found.append(_FLIP @ np.hstack([scaled, np.array(offset)[:, None]]))
    return tuple(found) if all(np.isfinite(place).all() for place in found) else None


def nearest_orthogonal(path: Path, header: NiftiHeader) -> sitk.Image:
    """An image (one byte a voxel) that lies as a slightly sheared sform says, its axes made orthogonal.

    Polar decomposition. Raises InputError when that would move any corner by more than half a voxel.
    """
    remedy = f"{path} has sheared axes (sform); resample it to an orthogonal grid first, for example in 3D Slicer"
    if header.sform is None or header.stored is None or len(header.stored.shape) < 3:
        raise InputError(remedy)
    spacing = np.linalg.norm(header.sform[:, :3], axis=0)
    if spacing.min() <= 0:
        raise InputError(remedy)
    u, _, vt = np.linalg.svd(header.sform[:, :3] / spacing)
    image = sitk.Image(header.stored.shape[:3], sitk.sitkUInt8)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(header.sform[:, 3].tolist())
    image.SetDirection((u @ vt).ravel().tolist())
    if corner_shift(header.sform, image) > 0.5:
        raise InputError(remedy)
    return image


def build_header(image: sitk.Image, template: bytes, description: str, comment: str, geometry: bytes | None) -> bytes:
    """Header, float32, of the size of ``image``.

    ``template`` is a header ITK wrote for this geometry; ``geometry`` (of the file the image came from)
    replaces its geometry fields exactly; ``comment`` becomes a header extension.
    """
    raw = bytearray(template[:348])
    struct.pack_into("<8h", raw, 40, 3, *image.GetSize(), 1, 1, 1, 1)
    struct.pack_into("<2h", raw, 70, 16, 32)
    if geometry:
        values = struct.unpack("<" + "".join(_FIELDS), geometry)
        for form, offset in zip(_FIELDS, _OFFSETS, strict=True):
            n = int(form[:-1])
            struct.pack_into("<" + form, raw, offset, *values[:n])
            values = values[n:]
    text = comment.encode("utf-8")
    extension = -(-(len(text) + 8) // 16) * 16
    struct.pack_into("<f", raw, 108, 352 + extension)
    struct.pack_into("<2f", raw, 112, 1.0, 0.0)
    struct.pack_into("<80s24s", raw, 148, description.encode("ascii", "replace")[:79], b"")
    comment_block = struct.pack("<2i", extension, 6) + text.ljust(extension - 8, b"\0")  # 6: plain text
    return bytes(raw) + b"\x01\x00\x00\x00" + comment_block
