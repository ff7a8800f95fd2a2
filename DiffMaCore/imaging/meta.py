"""MetaImage headers: what they say of the voxels and where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.stored import Stored, damaged_header, numbers, sizes

_TYPES = {
    "CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4", "ULONG": "u4",
    "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8",
}  # fmt: skip
_KNOWN = (
    "NDims", "BinaryData", "BinaryDataByteOrderMSB", "CompressedData", "TransformMatrix", "Rotation", "Orientation",
    "Offset", "Position", "Origin", "ElementSpacing", "ElementSize", "DimSize", "HeaderSize", "ElementType",
    "ElementNumberOfChannels", "ElementDataFile",
)  # fmt: skip
_SPELLING = {name.lower(): name for name in _KNOWN}
_PLACES = (("TransformMatrix", "Rotation", "Orientation"), ("Offset", "Position", "Origin"))


def read_header(path: Path) -> Stored | None:
    """Parse the header of ``path``; None where its voxels are text or in several files, which ITK reads.

    Raises:
        InputError: truncated, numbers that cannot be, or the data file is missing.
    """
    fields, start = _fields(path)
    name = fields.get("ElementDataFile", "")
    if not name:
        raise InputError(f"{path} is truncated or no MetaImage (its header ends early); copy or export it again")
    shape = sizes(path, fields.get("DimSize", ""))
    if not 1 < len(shape) < 10 or fields.get("NDims") != str(len(shape)):
        raise damaged_header(path)
    dtype = _TYPES.get(fields.get("ElementType", "").removeprefix("MET_"))
    several = name.upper().startswith("LIST") or "%" in name
    text = fields.get("BinaryData", "True")[:1].lower() not in ("t", "y", "1")
    if dtype is None or several or text or fields.get("ElementNumberOfChannels", "1") != "1" or len(shape) < 3:
        return None
    local = name.upper() == "LOCAL"
    data = path if local else path.parent / name
    if not data.is_file():
        raise InputError(f"{path} needs the file {name} beside it; put both into one folder")
    (skipped,) = numbers(path, fields.get("HeaderSize", "0"), 1)
    big = next((fields[key] for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB") if key in fields), "False")
    return Stored(
        shape=shape,
        dtype=np.dtype((">" if big[:1].lower() in ("t", "y", "1") else "<") + dtype),
        data=data,
        offset=-1 if skipped < 0 else int(skipped) or (start if local else 0),
        packed="zlib" if fields.get("CompressedData", "False")[:1].lower() in ("t", "y", "1") else "",
        affines=_affines(path, fields, len(shape)),
    )


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The header's fields, and where it ends."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        for raw in iter(lambda: stream.readline(65536), b""):
            name, separator, value = raw.decode("latin-1").partition("=")
            if not separator:
                break
            name = name.strip()
            if name in fields or not (name + value.strip()).isprintable() or _SPELLING.get(name.lower(), name) != name:
                raise InputError(f"{path} has a damaged header ({name[:40]!a}); copy or export it again")
            fields[name] = value.strip()
            if name == "ElementDataFile":
                break
        return fields, stream.tell()


def _affines(path: Path, fields: dict[str, str], n: int) -> tuple[np.ndarray, ...]:
    turn, origin = (next((fields[key] for key in keys if key in fields), None) for keys in _PLACES)
    steps = fields.get("ElementSpacing", fields.get("ElementSize"))
    axes = np.eye(n) if turn is None else np.array(numbers(path, turn, n * n)).reshape(n, n)
    if steps is None:
        raise InputError(f"{path} gives no voxel spacing (ElementSpacing); export it again")
    spacing = np.array(numbers(path, steps, n))
    offset = np.zeros(n) if origin is None else np.array(numbers(path, origin, n))
    return (np.hstack([(axes.T * spacing)[:3, :3], offset[:3, None]]),)
