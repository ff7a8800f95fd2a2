"""NIfTI-1 at byte level: what ITK neither checks nor keeps (complete data, exact geometry fields)."""

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

GEOMETRY_KEY = "diffma_nifti_geometry"
"""Metadata key under which an image read from NIfTI carries its geometry fields, as little-endian hex."""

_FIELDS = ("4f", "2h", "3f", "3f", "12f")  # pixdim[0:4]; q/sform_code; quatern b c d; qoffset; srow x y z
_OFFSETS = (76, 252, 256, 268, 280)
_DTYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class NiftiHeader:
    """The fields of a NIfTI-1 header that decide where the voxels are and how many there must be."""

    shape: tuple[int, ...]
    dtype: np.dtype | None
    bytes_per_voxel: float
    data_offset: int
    scale: tuple[float, float]
    sform: np.ndarray | None  # (3, 4) in mm, RAS, or None when the file says it is not set
    geometry: bytes

    @property
    def n_bytes(self) -> int:
        """Bytes the uncompressed file must have at least."""
        return self.data_offset + int(np.prod(self.shape, dtype=np.int64) * self.bytes_per_voxel)


def open_maybe_gzip(path: Path) -> BinaryIO:
    """Open ``path`` for reading, through gzip when its first bytes say so."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")  # type: ignore[return-value]


def read_header(path: Path) -> NiftiHeader | None:
    """Parse the header of ``path``; None for NIfTI-2 and for anything else that is not NIfTI-1."""
    try:
        with open_maybe_gzip(path) as stream:
            raw = stream.read(348)
    except (EOFError, OSError, zlib.error):
        return None
    if len(raw) < 348:
        return None
    order = next((o for o in "<>" if struct.unpack_from(o + "i", raw)[0] == 348), None)
    if order is None:
        return None
    dim = struct.unpack_from(order + "8h", raw, 40)
    datatype, bitpix = struct.unpack_from(order + "2h", raw, 70)
    slope, intercept = struct.unpack_from(order + "2f", raw, 112)
    geometry = [struct.unpack_from(order + f, raw, o) for f, o in zip(_FIELDS, _OFFSETS, strict=True)]
    name = _DTYPES.get(datatype)
    return NiftiHeader(
        shape=tuple(dim[1 : 1 + min(max(dim[0], 0), 7)]),
        dtype=np.dtype(order + name) if name else None,
        bytes_per_voxel=bitpix / 8,
        data_offset=int(struct.unpack_from(order + "f", raw, 108)[0]) if raw[344:346] == b"n+" else 0,
        scale=(slope, intercept) if np.isfinite(slope) and slope != 0 else (1.0, 0.0),
        sform=np.array(geometry[4], dtype=np.float64).reshape(3, 4) if geometry[1][1] > 0 else None,
        geometry=b"".join(struct.pack("<" + f, *v) for f, v in zip(_FIELDS, geometry, strict=True)),
    )


def check_complete(path: Path, header: NiftiHeader) -> bool:
    """Raise InputError unless all voxels are there: ITK itself fills a truncated NIfTI with rubbish.

    Returns whether all are finite: ITK makes NaN and infinity 0 without a word (:func:`restore_not_finite`).
    """
    floats = header.dtype if header.dtype is not None and header.dtype.kind == "f" and header.data_offset else None
    length, finite = 0, True
    try:
        with open_maybe_gzip(path) as stream:
            if floats is None and not isinstance(stream, gzip.GzipFile):
                length = path.stat().st_size
            else:
                length = len(stream.read(header.data_offset))
                while chunk := stream.read(1 << 22):
                    length += len(chunk)
                    finite = finite and (floats is None or _all_finite(chunk, floats))
    except (EOFError, OSError, zlib.error):
        length = -1
    if header.data_offset and length < header.n_bytes:
        raise InputError(f"{path} is truncated or damaged (voxels are missing); copy or export it again")
    return finite


def restore_not_finite(image: sitk.Image, path: Path, header: NiftiHeader) -> sitk.Image:
    """``image`` as ITK read it, float, with NaN again where the file's voxels are not finite."""
    voxels = _voxels(path, header)
    array = sitk.GetArrayFromImage(image)
    array[~np.isfinite(voxels).reshape(array.shape)] = np.nan
    restored = sitk.GetImageFromArray(array)
    restored.CopyInformation(image)
    return restored


def _all_finite(chunk: bytes, dtype: np.dtype) -> bool:
    whole = len(chunk) - len(chunk) % dtype.itemsize
    return bool(np.isfinite(np.frombuffer(chunk[:whole], dtype)).all())


def _voxels(path: Path, header: NiftiHeader) -> np.ndarray:
    """The stored voxels of the first volume, as they are, in one row."""
    assert header.dtype is not None
    with open_maybe_gzip(path) as stream:
        stream.seek(header.data_offset)
        data = stream.read(int(np.prod(header.shape[:3])) * header.dtype.itemsize)
    return np.frombuffer(data, header.dtype)


def sform_shift(header: NiftiHeader, image: sitk.Image) -> float:
    """Largest distance, in voxels of ``image``, between the file's sform and the image's geometry."""
    if header.sform is None or not np.isfinite(header.sform).all():
        return 0.0
    affine = _RAS_TO_LPS @ header.sform
    spacing = np.array(image.GetSpacing())
    direction = np.array(image.GetDirection()).reshape(3, 3)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.GetSize()])).reshape(3, -1)
    ours = direction @ (corners * spacing[:, None]) + np.array(image.GetOrigin())[:, None]
    theirs = affine[:, :3] @ corners + affine[:, 3:]
    return float(np.linalg.norm(ours - theirs, axis=0).max() / spacing.min())


def read_with_nearest_orthogonal(path: Path, header: NiftiHeader) -> sitk.Image:
    """Read a volume whose sform is slightly sheared, its axes made orthogonal (polar decomposition).

    Raises InputError when that would move any corner by more than half a voxel.
    """
    remedy = f"{path} has sheared axes (sform); resample it to an orthogonal grid first, for example in 3D Slicer"
    if header.sform is None or header.dtype is None or len(header.shape) < 3:
        raise InputError(remedy)
    affine = _RAS_TO_LPS @ header.sform
    spacing = np.linalg.norm(affine[:, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        raise InputError(remedy)
    u, _, vt = np.linalg.svd(affine[:, :3] / spacing)
    array = _voxels(path, header).reshape(header.shape[2::-1]).astype(np.float32)
    array *= np.float32(header.scale[0])
    array += np.float32(header.scale[1])
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:, 3].tolist())
    image.SetDirection((u @ vt).ravel().tolist())
    if sform_shift(header, image) > 0.5:
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
