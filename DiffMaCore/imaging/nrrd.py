"""NRRD headers as text, so that the geometry of an input comes back digit for digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

GEOMETRY_KEY = "diffma_nrrd_geometry"
"""Metadata key under which an image read from NRRD carries its three space lines."""

_SPACE_FIELDS = ("space", "space directions", "space origin")


def read_geometry(path: Path) -> str | None:
    """The ``space``, ``space directions`` and ``space origin`` lines of a NRRD header, or None."""
    found: dict[str, str] = {}
    with path.open("rb") as stream:
        for raw in iter(lambda: stream.readline(4096), b""):
            line = raw.decode("latin-1").strip()
            if not line:
                break
            name, _, value = line.partition(":")
            if name.strip().lower() in _SPACE_FIELDS:
                found[name.strip().lower()] = value.strip()
    if len(found) != 3 or "none" in found["space directions"]:
        return None
    return "\n".join(f"{name}: {found[name]}" for name in _SPACE_FIELDS)


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
