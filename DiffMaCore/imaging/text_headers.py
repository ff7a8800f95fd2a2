"""Headers of NRRD and MetaImage: what they say of the voxels; NRRD's also as text, for geometry digit for digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.stored import Stored, damaged_header, file_beside, is_list, numbers, sizes

GEOMETRY_KEY = "diffma_nrrd_geometry"
"""Metadata key under which an image read from NRRD carries its three space lines."""

_SPACE_FIELDS = ("space", "space directions", "space origin")
_NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TO_LPS = {"right-anterior-superior": (-1, -1, 1), "left-anterior-superior": (1, -1, 1)}
_META_TYPES = {
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
_PUNCTUATION = str.maketrans("(),", "   ")
_SHORT = {"ras": "right-anterior-superior", "las": "left-anterior-superior"}


def read_nrrd_header(path: Path) -> Stored | None:
    """Parse the header of ``path``; None for codings and layouts that are rare, which ITK reads.

    Raises:
        InputError: no NRRD, numbers that cannot be, or the data file is missing.
    """
    fields, start = _nrrd_fields(path)
    shape = sizes(path, fields.get("sizes", ""), fields.get("dimension"))
    dtype = next((t for t, names in _NRRD_TYPES.items() if fields.get("type", "").lower() in names), None)
    packed = {"raw": "", "gzip": "gzip", "gz": "gzip"}.get(fields.get("encoding", "").lower())
    name = fields.get("data file", fields.get("datafile"))
    skips = any(fields.get(key, "0") != "0" for key in ("byte skip", "byteskip", "line skip", "lineskip"))
    if dtype is None or packed is None or skips or is_list(name or "") or len(shape) < 3:
        return None
    data = path if name is None else file_beside(path, name)
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    place = _affine(path, fields)
    affines = () if place is None else (place,)
    return Stored(shape, np.dtype(order + dtype), data, start if name is None else 0, packed, affines=affines)


def _nrrd_fields(path: Path) -> tuple[dict[str, str], int]:
    """The header's fields by their names in lower case, and where it ends."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        if stream.readline(64)[:4] != b"NRRD":
            raise InputError(f"{path} is no NRRD file; copy or export it again")
        for raw in iter(lambda: stream.readline(1 << 16), b""):
            line = raw.decode("latin-1").strip()
            if not line:
                break
            name, colon, value = line.partition(":")
            if line.startswith("#") or value.startswith("="):
                continue
            name = name.strip().lower()
            if not colon or name in fields:
                raise InputError(f"{path} has a damaged header ({line[:40]!r}); copy or export it again")
            fields[name] = value.strip()
        return fields, stream.tell()


def _affine(path: Path, fields: dict[str, str]) -> np.ndarray | None:
    if "space directions" not in fields:
        return None
    words = fields["space directions"].translate(_PUNCTUATION).split()
    vectors = numbers(path, " ".join(word for word in words if word not in ("none", "???")))
    if fields["dimension"] != "3":
        return None
    if len(vectors) != 9:
        raise damaged_header(path)
    text = fields.get("space origin", "(0,0,0)").translate(_PUNCTUATION)
    space = fields.get("space", "").lower()
    flip = np.diag(_TO_LPS.get(_SHORT.get(space, space), (1, 1, 1))).astype(float)
    return flip @ np.hstack([np.array(vectors).reshape(3, 3).T, np.array(numbers(path, text, 3))[:, None]])


def read_geometry(path: Path) -> str | None:
    """The ``space``, ``space directions`` and ``space origin`` lines of a NRRD header, or None."""
    fields, _ = _nrrd_fields(path)
    if any(name not in fields for name in _SPACE_FIELDS) or "none" in fields["space directions"]:
        return None
    return "\n".join(f"{name}: {fields[name]}" for name in _SPACE_FIELDS)


def geometry_lines(image: sitk.Image) -> str:
    """The three space lines that describe ``image``."""
    vectors = (np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())).T
    directions = " ".join("(" + ",".join(repr(float(x)) for x in v) + ")" for v in vectors)
    origin = "(" + ",".join(repr(float(x)) for x in image.GetOrigin()) + ")"
    return f"space: left-posterior-superior\nspace directions: {directions}\nspace origin: {origin}"


def build_header(size: tuple[int, ...], geometry: str, metadata: dict[str, str]) -> bytes:
    """Header of a gzip-encoded little-endian float32 NRRD; ``size`` is in x, y, z order."""
    lines = [
        "NRRD0005",
        "type: float",
        "dimension: 3",
        geometry,
        "sizes: " + " ".join(str(n) for n in size),
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
    ]
    for key, value in metadata.items():
        escaped = value.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"{key.replace(':=', '-')}:={escaped}")
    return ("\n".join(lines) + "\n\n").encode("utf-8")


def read_meta_header(path: Path) -> Stored | None:
    """Parse the header of ``path``; None where its voxels are text or in several files, which ITK reads.

    Raises:
        InputError: truncated, numbers that cannot be, or the data file is missing.
    """
    fields, start = _meta_fields(path)
    name = fields.get("ElementDataFile", "")
    if not name:
        raise InputError(f"{path} is truncated or no MetaImage (its header ends early); copy or export it again")
    shape = sizes(path, fields.get("DimSize", ""), fields.get("NDims"))
    if not 1 < len(shape) < 10:
        raise damaged_header(path)
    dtype = _META_TYPES.get(fields.get("ElementType", "").removeprefix("MET_"))
    text = fields.get("BinaryData", "True")[:1].lower() not in ("t", "y", "1")
    if dtype is None or is_list(name) or text or fields.get("ElementNumberOfChannels", "1") != "1" or len(shape) < 3:
        return None
    local = name.upper() == "LOCAL"
    data = path if local else file_beside(path, name)
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


def _meta_fields(path: Path) -> tuple[dict[str, str], int]:
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
