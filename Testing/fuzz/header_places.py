"""Where a file's own header puts its voxels, worked out here and not by the reader under test."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

_FLIP = np.diag([-1.0, -1.0, 1.0])


def moved_by(path: Path, image: sitk.Image) -> float:
    """Largest distance, in voxels, of a corner of ``image`` from where the header of ``path`` puts it.

    Infinite where the header's numbers are no place at all; 0 for DICOM, whose positions other checks compare.
    """
    if path.is_dir():
        return 0.0
    name = path.name
    affines = _nifti(path) if ".nii" in name else _nrrd(path) if name.endswith(("nrrd", "nhdr")) else _meta(path)
    spacing = np.array(image.GetSpacing())
    direction = np.array(image.GetDirection()).reshape(3, 3)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.GetSize()])).reshape(3, -1)
    ours = direction @ (corners * spacing[:, None]) + np.array(image.GetOrigin())[:, None]
    shifts = []
    for affine in affines:
        with np.errstate(all="ignore"):
            shift = np.linalg.norm(ours - affine[:, :3] @ corners - affine[:, 3:], axis=0).max() / spacing.min()
        shifts.append(float(shift) if np.isfinite(shift) else np.inf)
    return min(shifts, default=np.inf)


def _nifti(path: Path) -> list[np.ndarray]:
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    order = "<" if struct.unpack_from("<i", raw)[0] == 348 else ">"
    step = struct.unpack_from(order + "4f", raw, 76)
    qcode, scode = struct.unpack_from(order + "2h", raw, 252)
    scale = {1: 1000.0, 3: 0.001}.get(raw[123] & 7, 1.0)
    found = []
    if scode > 0:
        found.append(_FLIP @ np.array(struct.unpack_from(order + "12f", raw, 280)).reshape(3, 4) * scale)
    if qcode > 0:
        b, c, d, *offset = struct.unpack_from(order + "6f", raw, 256)
        a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
        norm = np.sqrt(a * a + b * b + c * c + d * d)
        a, b, c, d = a / norm, b / norm, c / norm, d / norm
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        steps = np.array([step[1], step[2], step[3] * (-1 if step[0] < 0 else 1)])
        found.append(_FLIP @ np.hstack([turn * steps, np.array(offset)[:, None]]) * scale)
    if not found:  # ITK's own reading of a header without places: axes along the file's, from 0
        found = [np.hstack([m @ np.diag(np.abs(step[1:4])) * scale, np.zeros((3, 1))]) for m in (np.eye(3), _FLIP)]
    return found


def _fields(path: Path, separator: str) -> dict[str, str]:
    head = re.split(rb"\r?\n\r?\n|ElementDataFile", path.read_bytes(), maxsplit=1)[0].decode("latin-1")
    pairs = (line.partition(separator) for line in head.split("\n") if not line.startswith("#"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _nrrd(path: Path) -> list[np.ndarray]:
    fields = _fields(path, ":")
    spaces = {"lps": np.eye(3), "left-posterior-superior": np.eye(3), "ras": _FLIP, "right-anterior-superior": _FLIP,
              "las": np.diag([1.0, -1.0, 1.0]), "left-anterior-superior": np.diag([1.0, -1.0, 1.0])}  # fmt: skip
    to_lps = spaces.get(fields.get("space", "").lower(), np.eye(3))
    numbers = [float(n) for n in re.findall(r"[^(),\s]+", fields.get("space directions", "")) if n.lower() != "none"]
    origin = [float(n) for n in re.findall(r"[^(),\s]+", fields.get("space origin", ""))] or [0.0] * 3
    if not numbers:
        steps = [float(n) for n in fields.get("spacings", "1 1 1").split()][:3]
        return [np.hstack([np.diag(steps), np.array(origin)[:, None]])]
    return [to_lps @ np.hstack([np.array(numbers).reshape(-1, 3)[:3].T, np.array(origin)[:, None]])]


def _meta(path: Path) -> list[np.ndarray]:
    fields = _fields(path, "=")

    def numbers(names: tuple[str, ...], default: list[float]) -> np.ndarray:
        text = next((fields[name] for name in names if name in fields), None)
        return np.array(default if text is None else [float(n) for n in text.split()])

    turn = numbers(("transformmatrix", "rotation", "orientation"), list(np.eye(3).ravel()))
    origin = numbers(("offset", "position", "origin"), [0.0] * 3)
    steps = numbers(("elementspacing",), [1.0] * 3)
    return [np.hstack([turn.reshape(3, 3).T * steps, origin[:, None]])]
