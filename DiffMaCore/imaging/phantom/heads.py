"""Heads to render: label maps of real heads, cleaned, with the distance maps that split what has no label."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from DiffMaCore.errors import InputError
from DiffMaCore.files import replacing
from DiffMaCore.imaging.phantom.cleaning import clean, padded
from DiffMaCore.imaging.phantom.detail import detail_of
from DiffMaCore.imaging.phantom.splitting import MAPS, SIDES, Eye, distance_maps, find_eyes, landmarks

VERSION = 4  # of what a cached head holds


@dataclass(frozen=True)
class Head:
    """A head at 1 mm: arrays (z, y, x), z to the vertex, y to the back, x to the patient's left.

    ``labels`` uint8 (``phantom.tissues``), ``maps`` uint8 (z, y, x, len(MAPS)), see ``splitting``;
    ``eyes`` (eyes, 4) centre and radius, ``landmarks`` (``splitting.LANDMARKS``, 3), NaN where unknown, and
    ``centre``, all in voxels; ``length`` of the head from front to back in mm; ``base``: slice of the eyes' centre.
    ``detail`` int16: what a real T1 of the head shows beyond the labels (``detail``), empty where there is none.
    """

    name: str
    labels: NDArray[np.uint8]
    maps: NDArray[np.uint8]
    eyes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    centre: NDArray[np.float32]
    length: float
    base: float
    detail: NDArray[np.int16] = field(default_factory=lambda: np.zeros((0, 0, 0), np.int16))


def bundled_heads() -> tuple[str, ...]:
    """Names of the heads that come with the package."""
    return tuple(sorted(heads_in(_bundled())))


def heads_in(folder: Path) -> dict[str, Path]:
    """Label maps of a folder, name to path, by name; raises InputError where there is none."""
    found = {path.name.removesuffix(".nii.gz"): path for path in sorted(Path(folder).glob("*.nii.gz"))}
    if not found:
        raise InputError(f"{folder} holds no label maps of heads (.nii.gz)")
    return found


def _bundled() -> Path:
    return Path(str(resources.files("DiffMaCore") / "data" / "heads"))


def load_head(path_or_name: str | Path, *, cache: Path | None = None) -> Head:
    """Read, clean and measure a label map: 1 mm, FreeSurfer's labels with those of SimNIBS' CHARM (``tissues``).

    A file of the same name in the folder ``t1`` beside it is the T1 of this head on the same grid, 0 where it is not
    known: it is what its renderings show as T1.
    ``path_or_name``: a path, or a name of ``bundled_heads``. ``cache``: a folder that keeps the result.
    Raises InputError for a name or file that is not there, or a T1 that does not lie on its label map.
    """
    path = Path(path_or_name)
    if not path.exists():
        names = heads_in(_bundled())
        if str(path_or_name) not in names:
            raise InputError(f"no head called {path_or_name}; there are {', '.join(names)}, or give a label map")
        path = names[str(path_or_name)]
    if cache is None:
        return _make(path)
    kept = Path(cache) / f"{path.name.removesuffix('.nii.gz')}-{digest(path)[:12]}-{VERSION}.npz"
    if kept.exists():
        with np.load(kept) as data:
            values = {f.name: data[f.name] for f in fields(Head)}
        scalars = {"name": str(values["name"]), "length": float(values["length"]), "base": float(values["base"])}
        return Head(**{**values, **scalars})
    head = _make(path)
    with replacing(kept) as part, part.open("wb") as stream:
        np.savez_compressed(stream, **{f.name: getattr(head, f.name) for f in fields(Head)})
    return head


def head_files(path: Path) -> tuple[Path, ...]:
    """A label map, and the T1 of the same head where there is one."""
    t1 = path.parent / "t1" / path.name
    return (path, t1) if t1.is_file() else (path,)


def digest(path: Path) -> str:
    """SHA-256 of the files of a head."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in head_files(path))).hexdigest()


def has_t1(path: Path) -> bool:
    """Whether there is a T1 of the head that this label map is of."""
    return len(head_files(path)) > 1


def _make(path: Path) -> Head:
    import SimpleITK as sitk

    image, *t1 = (sitk.DICOMOrient(sitk.ReadImage(str(file)), "LPS") for file in head_files(path))
    if not np.allclose(image.GetSpacing(), 1.0, atol=0.02):
        raise InputError(f"{path} has voxels of {image.GetSpacing()} mm; a head's label map has 1 mm")
    source = sitk.GetArrayFromImage(image)
    labels, bottom = clean(source)
    source = padded(source)[bottom:]
    eyes = find_eyes(labels)
    maps = distance_maps(labels, {name: np.isin(source, values) for name, values in SIDES.items()}, eyes)
    head = assemble(path.name.removesuffix(".nii.gz"), labels, maps, eyes, landmarks(source, eyes))
    for real in t1:  # one or none
        try:
            if real.GetSize() != image.GetSize() or not np.allclose(real.GetSpacing(), image.GetSpacing(), atol=0.02):
                raise ValueError(f"has another grid than its label map; resample it onto {path}")
            head = replace(head, detail=detail_of(labels, padded(sitk.GetArrayFromImage(real))[bottom:]))
        except ValueError as problem:
            raise InputError(f"{head_files(path)[1]} {problem}") from None
    return head


def assemble(
    name: str, labels: NDArray[np.uint8], maps: NDArray[np.uint8], eyes: list[Eye], points: NDArray[np.float32]
) -> Head:
    """A head of its parts, with what is measured on them."""
    from DiffMaCore.imaging.phantom import tissues as t

    assert maps.shape[-1] == len(MAPS)
    brain = np.argwhere(np.isin(labels, [t.WHITE.label, t.CORTEX.label]))
    middle = (brain.min(0) + brain.max(0)) / 2
    upper = (labels[int(middle[0])] > 0).any(1).nonzero()[0]
    base = float(np.mean([eye.centre[0] for eye in eyes])) if eyes else float(brain[:, 0].min() + 25)
    table = np.array([[*eye.centre, eye.radius] for eye in eyes], np.float32).reshape(-1, 4)
    head = np.argwhere((labels > 0).any((1, 2)))
    centre = np.array([(head.min() + head.max()) / 2, (upper[0] + upper[-1]) / 2, middle[2]], np.float32)
    return Head(name, labels, maps, table, points, centre, float(upper[-1] - upper[0] + 1), base)
