"""How like the truth T1s are of CTs that another renderer made, which has nothing of ours but the label maps. By hand:

python -m Testing.another_renderer --out another_renderer.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore import DiffMaPipeline
from DiffMaCore.imaging.phantom import heads_in
from DiffMaCore.imaging.phantom.tissues import SOURCE_BRAIN
from DiffMaCore.imaging.pictures import side_by_side
from DiffMaCore.training.evaluation.heads import WINDOW
from DiffMaCore.training.evaluation.scores import likeness
from Testing.conftest import ROOT

HEADS = ROOT / "DiffMaCore" / "data" / "heads"
SPACING = (1.4, 1.4, 3.0)  # mm, x y z, as of the heads that `diffma evaluate` renders
LOOKS = {  # SynthSeg's labels: HU, and the mean of its prior of T1 (white matter 160)
    (2, 41): (28, 160),
    (3, 42): (38, 96),
    (4, 5, 14, 15, 43, 44, 72): (6, 44),
    (24,): (8, 44),
    (7, 46): (30, 136),
    (8, 47): (38, 88),
    (10, 49): (36, 130),
    (11, 50, 17, 53, 18, 54, 26, 58): (37, 96),
    (12, 51): (37, 124),
    (13, 52): (38, 152),
    (16,): (31, 130),
    (28, 60): (35, 142),
    (25, 57): (24, 116),
    (30, 62): (40, 87),
    (136, 137, 163, 164): (36, 60),
    (85,): (34, 160),
    (502,): (45, 126),
    (506,): (12, 18),
    (507,): (55, 94),
    (508,): (50, 117),
    (509,): (45, 70),
    (511,): (35, 114),
    (512,): (34, 68),
    (514,): (55, 48),
    (515,): (1100, 30),
    (516,): (375, 94),
    (530,): (34, 145),
}
FLESH, SKIN = 507, 511
FAT = (-95, 205)
FAT_MM = {SKIN: (2.0, np.inf), FLESH: (2.0, 6.0)}  # depths below the surface at which a label is fat
NOISE = 5.0  # HU, before smoothing
SHOWN = 180  # pixels of a slice in the picture


def paint(labels: NDArray[np.integer], fat: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """CT (HU) and T1 of a label map, one value a label; ``fat``: some depths below the surface are fat."""
    table = np.zeros((2, int(labels.max()) + 1), np.float32)
    table[:, 0] = -1000, 7
    for names, looks in LOOKS.items():
        for name in names:
            if name < table.shape[1]:
                table[:, name] = looks
    ct, t1 = table[:, labels]
    depth = ndimage.distance_transform_edt(labels > 0)
    for label, (least, most) in FAT_MM.items() if fat else ():
        here = (labels == label) & (depth > least) & (depth < most)
        ct[here], t1[here] = FAT
    return ct, t1


def scanned(volume: NDArray[np.generic], smooth: bool = True) -> sitk.Image:
    """A 1 mm volume at SPACING."""
    image = sitk.GetImageFromArray(ndimage.gaussian_filter(volume, (1.0, 0.5, 0.5)) if smooth else volume)
    size = [int(n / s) for n, s in zip(image.GetSize(), SPACING, strict=True)]
    way = sitk.sitkLinear if smooth else sitk.sitkNearestNeighbor
    return sitk.Resample(image, size, sitk.Transform(), way, (0, 0, 0), SPACING)


def shown(volume: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Three of its slices, all of one size."""
    planes = (volume[int(share * len(volume))] for share in (0.25, 0.5, 0.75))
    return [np.pad(plane, [(0, SHOWN - n) for n in plane.shape], constant_values=volume.min()) for plane in planes]


def main() -> None:
    """Print SSIM and PSNR of the two heads that validate; T1s are divided by their own 99.5 percentile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", metavar="NAME|FOLDER")
    parser.add_argument("--out", type=Path, metavar="PNG", help="CT, made and true T1 of three slices of each")
    args = parser.parse_args()
    pipe = DiffMaPipeline.from_pretrained(args.model)
    columns: dict[str, list[NDArray[np.floating]]] = {"CT": [], "T1, synthetic": [], "T1, true": []}
    for name, path in heads_in(HEADS).items():
        labels = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")).astype(int)
        tissue = sitk.GetArrayFromImage(scanned(labels.astype(np.int16), smooth=False))
        body, brain = ndimage.binary_fill_holes(tissue > 0), np.isin(tissue, SOURCE_BRAIN)
        for fat in (True, False):
            hu, truth = (sitk.GetArrayFromImage(scanned(each)) for each in paint(labels, fat))
            grain = np.random.default_rng(0).normal(0, NOISE, hu.shape)
            hu = (hu + ndimage.gaussian_filter(grain, (0, 0.6, 0.6))).round().astype(np.int16)
            ct = sitk.GetImageFromArray(hu)
            ct.SetSpacing(SPACING)
            made = sitk.GetArrayFromImage(pipe(ct).mr)
            made, truth = (np.clip(each / np.percentile(each[body], 99.5), 0, 1) for each in (made, truth))
            whole, inner = (likeness(made, truth, mask, fit=False, data_range=1.0) for mask in (body, brain))
            print(
                f"{name}, {'with' if fat else 'without'} fat: SSIM {whole.ssim:.3f}, {whole.psnr:.1f} dB;"
                f" in the brain {inner.ssim:.3f}, {inner.psnr:.1f} dB"
            )
            for column, volume in zip(columns.values(), (hu, made, truth), strict=True):
                column += shown(volume)
    if args.out:
        windows = (WINDOW, (0.0, 1.0), (0.0, 1.0))
        pictures = [(title, np.stack(column), w) for (title, column), w in zip(columns.items(), windows, strict=True)]
        side_by_side(pictures, SHOWN, f"Synthetic images by {args.model}, research only").save(args.out)


if __name__ == "__main__":
    main()
