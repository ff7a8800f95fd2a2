"""What a volume file's header says of its voxels, and reading them in Python: native code sees headers only.

ITK fills what is missing with rubbish, takes half a stream for a whole one, and makes NaN 0 without a word.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import InputError

_CHUNK = 1 << 22
_LARGEST_PACKING = 1032  # bytes that one byte of deflate can stand for, at most


@dataclass(frozen=True)
class Stored:
    """Voxels in a file.

    Attributes:
        shape: x, y, z, and more where there are more axes.
        dtype: of the voxels as stored.
        data: the file that holds them; ``offset`` into it begins what may be packed, "gzip" or "zlib", and ``skip``
            bytes of the unpacked come before the voxels. An offset of -1: they are the end of the file.
        scale: slope and intercept.
        affines: (3, 4) each, voxel index to mm, LPS; the image must lie as one of them says. None: not given.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    data: Path
    offset: int
    packed: str = ""
    skip: int = 0
    scale: tuple[float, float] = (1.0, 0.0)
    affines: tuple[np.ndarray, ...] = ()

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def numbers(path: Path, text: str, count: int | None = None) -> list[float]:
    """The finite numbers that ``text`` of a header lists.

    Raises:
        InputError: others than numbers, or not ``count`` of them.
    """
    try:
        found = [float(word) for word in text.split()]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)) or (count is not None and len(found) != count):
        raise damaged_header(path)
    return found


def sizes(path: Path, text: str, count: str | None) -> tuple[int, ...]:
    """The positive integers that ``text`` of a header lists, ``count`` of them; InputError where it lists others."""
    found = numbers(path, text)
    if not found or not all(n == int(n) and 1 <= n < 2**31 for n in found) or count != str(len(found)):
        raise damaged_header(path)
    return tuple(map(int, found))


def is_list(name: str) -> bool:
    """Whether a header's data file is several, of which it gives a list or a pattern."""
    return name.upper().startswith("LIST") or "%" in name


def file_beside(path: Path, name: str) -> Path:
    """The data file that a header names; InputError where it is missing."""
    if not (path.parent / name).is_file():
        raise InputError(f"{path} needs the file {name} beside it; put both into one folder")
    return path.parent / name


def damaged_header(path: Path) -> InputError:
    """The error for numbers that can't be."""
    return InputError(f"{path} has a damaged header (numbers that cannot be); copy or export it again")


def read_voxels(path: Path, stored: Stored) -> np.ndarray:
    """The voxels of the first volume, (z, y, x) float32, scaled; NaN and infinity stay.

    Raises:
        InputError: voxels are missing, or their checksum is wrong.
    """
    size = stored.data.stat().st_size
    needed = stored.skip + stored.n_bytes
    truncated = InputError(f"{path} is truncated or damaged (voxels are missing); copy or export it again")
    if needed > (size * _LARGEST_PACKING if stored.packed else size - max(stored.offset, 0)):
        raise truncated
    with stored.data.open("rb") as stream:
        stream.seek(stored.offset if stored.offset >= 0 else size - stored.n_bytes)
        if not stored.packed:
            raw = np.fromfile(stream, stored.dtype, math.prod(stored.shape))
        else:
            raw = _unpacked(stream, stored, truncated)
    voxels = raw[: math.prod(stored.shape[:3])].reshape(stored.shape[2::-1])
    with np.errstate(all="ignore"):
        if stored.scale == (1.0, 0.0):
            return voxels.astype(np.float32)
        slope, intercept = stored.scale
        return np.stack([(plane * np.float64(slope) + intercept).astype(np.float32) for plane in voxels])


def _unpacked(stream: BinaryIO, stored: Stored, truncated: InputError) -> np.ndarray:
    """All is unpacked, and so every checksum proven."""
    whole = np.empty(stored.skip + stored.n_bytes, np.uint8)
    at = 0
    try:
        for chunk in _inflate(stream, stored.packed):
            piece = np.frombuffer(chunk, np.uint8)[: len(whole) - at]
            whole[at : at + len(piece)] = piece
            at += len(piece)
    except (EOFError, OSError, zlib.error):
        raise truncated from None
    if at < len(whole):
        raise truncated
    return whole[stored.skip :].view(stored.dtype)


def _inflate(stream: BinaryIO, packed: str) -> Iterator[bytes]:
    if packed == "gzip":
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield from iter(lambda: unpacked.read(_CHUNK), b"")
        return
    inflator = zlib.decompressobj()
    while not inflator.eof and (chunk := inflator.unconsumed_tail or stream.read(_CHUNK)):
        yield inflator.decompress(chunk, _CHUNK)
    if not inflator.eof:
        raise EOFError


def corner_shift(affine: np.ndarray, image: sitk.Image) -> float:
    """Largest distance, in voxels of ``image``, from its corners to where ``affine`` puts them; infinite for NaN."""
    spacing = np.array(image.GetSpacing())
    direction = np.array(image.GetDirection()).reshape(3, 3)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.GetSize()])).reshape(3, -1)
    with np.errstate(all="ignore"):
        ours = direction @ (corners * spacing[:, None]) + np.array(image.GetOrigin())[:, None]
        theirs = affine[:, :3] @ corners + affine[:, 3:]
        shift = float(np.linalg.norm(ours - theirs, axis=0).max() / spacing.min())
    return shift if math.isfinite(shift) else math.inf
