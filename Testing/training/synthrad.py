"""A small imitation of SynthRAD's Task 1 out of phantoms: the real names, headers and spacings, a few slices a case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from Testing.heads import rendered

BRAINS = ("1BA001", "1BA005", "1BB002", "1BB011", "1BC003", "1BC008")
PELVES = ("1PA001", "1PC007")

_COARSE = (6.0, 6.0, 8.0)  # mm; the phantoms are painted on this grid and resampled to the data set's
_LOWEST = 84.0  # mm above the phantom's first slice: where the slab begins, in the brain
_PELVIS_SCALE = 1.5  # a head this much larger is as wide as a narrow pelvis

Images = dict[str, sitk.Image]


def write_synthrad(
    folder: Path,
    ids: Sequence[str] = BRAINS,
    *,
    slices: int = 12,
    damage: Mapping[str, str] | None = None,
    year: int = 2023,
) -> Path:
    """Write ``Task1`` below ``folder`` and return it.

    Args:
        folder: made where it is missing.
        ids: as SynthRAD writes them: 1BA001 (brain), 1PA001 (pelvis); 1ABA005, 1HNA005, 1THA005 with ``year`` 2025.
        slices: of every case: 1 mm apart in brains, 2.5 mm in pelves.
        damage: what is wrong with which case, by its word in ``DAMAGES``, or "no_ct", "no_mr", "no_mask", "truncated".
        year: 2023 writes .nii.gz, 2025 .mha.
    """
    task = folder / "Task1"
    extension = ".nii.gz" if year == 2023 else ".mha"
    for number, case_id in enumerate(ids):
        region = case_id[1:3] if year == 2025 else {"B": "brain", "P": "pelvis"}[case_id[1]]
        images = case_images(number, pelvis=region != "brain", slices=slices)
        wrong = (damage or {}).get(case_id, "")
        if wrong in DAMAGES:
            DAMAGES[wrong](images)
        place = task / region / case_id
        place.mkdir(parents=True)
        for name, image in images.items():
            if wrong != f"no_{name}":
                sitk.WriteImage(image, str(place / f"{name}{extension}"), useCompression=True)
        if wrong == "truncated":
            file = place / f"mr{extension}"
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        overview = task / region / "overview"
        overview.mkdir(exist_ok=True)
        (overview / f"{case_id}_train.png").write_bytes(b"a picture")
        (overview / f"1_{region}_train.xlsx").write_bytes(b"a table")
    return task


def case_images(seed: int, pelvis: bool = False, slices: int = 12) -> Images:
    """CT (int16), MR (float32) and mask (uint8) of one case on its data set's grid."""
    coarse = _phantom(seed)
    scale = _PELVIS_SCALE if pelvis else 1.0
    spacing = (1.0, 1.0, 2.5 if pelvis else 1.0)
    size = [round(n * mm * scale) for n, mm in zip(coarse["ct"].GetSize()[:2], _COARSE[:2], strict=True)]
    images = {}
    for name, (kind, interpolator, background) in {
        "ct": (sitk.sitkInt16, sitk.sitkLinear, -1000),
        "mr": (sitk.sitkFloat32, sitk.sitkLinear, 0),
        "mask": (sitk.sitkUInt8, sitk.sitkNearestNeighbor, 0),
    }.items():
        image = sitk.Image(coarse[name])
        image.SetSpacing([mm * scale for mm in _COARSE])
        image.SetOrigin((0.0, 0.0, 0.0))
        grid = sitk.Image([*size, slices], kind)
        grid.SetSpacing(spacing)
        grid.SetOrigin((0.0, 0.0, _LOWEST * scale))
        images[name] = sitk.Resample(image, grid, sitk.Transform(), interpolator, background, kind)
        images[name].SetOrigin((-size[0] / 2, -size[1] / 2, 31.5))
    return images


@cache
def _phantom(seed: int) -> Images:
    phantom = rendered(seed, _COARSE, (38, 38, 27))
    body = sitk.GetImageFromArray(phantom.body.astype(np.uint8))
    return {"ct": phantom.ct_image(), "mr": phantom.mr_image(), "mask": sitk.BinaryDilate(body, (1, 1, 0))}


def _changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Images], None]:
    def damage(images: Images) -> None:
        image = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(images[name])))
        image.CopyInformation(images[name])
        images[name] = image

    return damage


def _nan(array: np.ndarray) -> np.ndarray:
    array[2, 100:103, 100] = np.nan
    return array


def _size(images: Images) -> None:
    images["mr"] = images["mr"][:, :, 1:]


def _spacing(images: Images) -> None:
    images["mr"].SetSpacing((1.1, 1.0, images["mr"].GetSpacing()[2]))


def _origin(images: Images) -> None:
    images["mr"].SetOrigin([mm + 3 for mm in images["mr"].GetOrigin()])


def _direction(images: Images) -> None:
    images["mr"].SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))


def _mask_origin(images: Images) -> None:
    images["mask"].SetOrigin((0.0, 0.0, 0.0))


def _ct_as_mr(images: Images) -> None:
    images["mr"] = sitk.Cast(images["ct"], sitk.sitkFloat32)


DAMAGES: dict[str, Callable[[Images], None]] = {
    "size": _size,
    "spacing": _spacing,
    "origin": _origin,
    "direction": _direction,
    "mask_origin": _mask_origin,
    "nan": _changed("mr", _nan),
    "not_hu": _changed("ct", lambda a: np.clip((a + 1000) / 8, 0, 255).astype(np.int16)),
    "all_air": _changed("ct", lambda a: np.random.default_rng(0).normal(-1000, 10, a.shape).astype(np.int16)),
    "constant_mr": _changed("mr", lambda a: np.zeros_like(a)),
    "empty_slices": _changed("mr", lambda a: np.where(np.arange(len(a))[:, None, None] < 0.7 * len(a), 0, a)),
    "empty_mask": _changed("mask", lambda a: np.zeros_like(a)),
    "shifted": _changed("mr", lambda a: np.roll(a, 45, axis=2)),
    "ct_as_mr": _ct_as_mr,
}
