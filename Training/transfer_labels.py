"""A real T1 in, its label map and itself on the same grid out: heads to train on (Training/heads, heads/t1).

The labels of another head are carried over by registration (affine, B-spline, demons). In the cerebrum the T1 itself
then says what is fluid, cortex and white matter, or a FreeSurfer parcellation says it of the whole brain; the T1's
darkness says what is compact bone around it. Where the face was removed there is no label. Some minutes of a core.

    python -m Training.transfer_labels t1.nii.gz Training/heads/head_01.nii.gz Training/heads/head_17.nii.gz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.errors import DiffMaError, InputError
from DiffMaCore.files import Together
from DiffMaCore.imaging.agreement import between_classes
from DiffMaCore.imaging.body import largest_piece
from DiffMaCore.imaging.phantom import tissues as t
from DiffMaCore.imaging.reading import read_volume
from DiffMaCore.progress import Reporter, TerminalReporter

Labels = NDArray[np.int32]
Values = NDArray[np.float32]
Mask = NDArray[np.bool_]

WHITE, CORTEX = (2, 41), (3, 42)  # of the cerebrum, left and right
CSF, VENTRICLES, EYE, NERVE, BONE, MARROW, FLESH, SKIN = 24, (4, 43, 5, 44, 14, 15), 506, 530, 515, 516, 507, 511
NOTICE = "made by Training.transfer_labels of DiffMa, research only"
_PARCELS = {31: 4, 63: 43, 77: 2, 80: 2, **dict.fromkeys(range(251, 256), 2)}  # what our label maps do not tell apart
_STORED_WHITE = 160  # of the stored T1
_NOT_BRAIN = 1.5  # of white matter: fat and vessels are brighter than any brain
_DARK, _BRIGHT = 0.3, 0.45  # of white matter, around the brain: compact bone, and marrow
_SKULL_MM = 14.0  # no bone of the skull lies further from the brain
_SCALP_MM = 2.5  # nor nearer to the skin
_TABLE_MM = 2.0  # of compact bone next to the brain
_STEPS = 6  # of the registration: two each of affine, B-spline and demons


def transfer(
    t1: Path, labels: Path, out: Path, parcellation: Path | None = None, reporter: Reporter | None = None
) -> None:
    """Write the label map ``out`` (.nii.gz) of the head that ``t1`` shows, and the T1 to ``t1/`` beside; 1 mm both.

    Raises InputError where a file is missing or no image, or the labels do not come to lie on the T1's brain;
    OutputError where nothing can be written.
    """
    reporter = reporter or Reporter()
    for path in (t1, labels, *([parcellation] if parcellation else [])):  # before any work
        if not path.is_file():
            raise InputError(f"there is no {path}; check the spelling of the path")
    if not out.name.endswith(".nii.gz"):
        raise InputError(f"{out} does not end in .nii.gz, as label maps of heads do")
    reporter.stage("reading, and evening out the T1's brightness")
    image, moving = unbiased(isotropic(t1)), isotropic(labels, sitk.sitkNearestNeighbor)
    parcels = parcellation and isotropic(parcellation, sitk.sitkNearestNeighbor)
    carried = sitk.Resample(moving, image, register(image, moving, reporter), sitk.sitkNearestNeighbor, 0)
    reporter.stage("labelling brain and skull")
    found, grey = sitk.GetArrayFromImage(carried).astype(np.int32), sitk.GetArrayFromImage(image)
    white = np.isin(found, WHITE)
    if white.sum() < 1000:
        raise InputError(f"{labels} does not lie on the brain of {t1} after registration; look at both")
    values = (grey / np.median(grey[white])).astype(np.float32)
    brain = ndimage.binary_closing(np.isin(found, [*t.SOURCE_BRAIN, CSF]), iterations=2)
    if parcels:
        found = by_parcels(found, sitk.GetArrayFromImage(parcels).astype(np.int32))
    else:
        found = by_intensity(found, values, brain)
    found = with_skull(found, values, ndimage.binary_fill_holes(brain))
    stored = np.where(found > 0, np.clip(np.round(values * _STORED_WHITE), 1, 255), 0)
    box = ndimage.find_objects((found > 0).astype(np.uint8))[0]
    beside = out.parent / "t1" / out.name
    with Together() as files:
        for array, path in ((stored.astype(np.uint8), beside), (found.astype(np.uint16), out)):
            written = sitk.DICOMOrient(sitk.GetImageFromArray(array[box]), "RAS")
            written.SetMetaData("ITK_FileNotes", NOTICE)
            with files.writing(path, ".nii.gz") as part:
                sitk.WriteImage(written, str(part), True, 9)
    reporter.note(f"wrote {out} and {beside}; look at one on the other before you train on them")


def isotropic(path: Path, interpolator: int = sitk.sitkLinear) -> sitk.Image:
    """The image at 1 mm, axes to the left, the back and the vertex, its origin at 0; InputError as of
    :func:`~DiffMaCore.imaging.reading.read_volume`."""
    image = sitk.DICOMOrient(read_volume(path, modality=None).image, "LPS")
    size = np.ceil(np.multiply(image.GetSize(), image.GetSpacing())).astype(int).tolist()
    image = sitk.Resample(
        image, size, sitk.Transform(), interpolator, image.GetOrigin(), (1, 1, 1), image.GetDirection(), 0
    )
    return sitk.GetImageFromArray(sitk.GetArrayFromImage(image))


def unbiased(image: sitk.Image) -> sitk.Image:
    """Without the slow change of brightness across it (N4)."""
    small, mask = (sitk.Shrink(each, [4] * 3) for each in (image, sitk.OtsuThreshold(image, 0, 1, 200)))
    field = sitk.N4BiasFieldCorrectionImageFilter()
    field.SetMaximumNumberOfIterations([30, 30, 20])
    field.Execute(small, mask)
    return sitk.Cast(image / sitk.Exp(field.GetLogBiasFieldAsImage(image)), sitk.sitkFloat32)


def register(image: sitk.Image, labels: sitk.Image, reporter: Reporter) -> sitk.Transform:
    """From places in the T1 ``image`` to places in the head of ``labels``."""
    reporter.stage("registering", _STEPS)
    looks = np.zeros(2048, np.float32)
    for value, tissue in t.SOURCE_LABELS.items():
        looks[value] = tissue.t1w
    looks[SKIN] = 1.0  # most of it is fat
    drawn = ndimage.gaussian_filter(looks[sitk.GetArrayFromImage(labels).astype(np.int32)], 0.6)
    moving = sitk.GetImageFromArray(drawn)
    (vertex, where), (other, there) = (_vertex(sitk.GetArrayFromImage(each)) for each in (image, moving))
    affine = sitk.AffineTransform(3)
    affine.SetCenter((where[0], where[1], vertex - 60.0))
    affine.SetTranslation((there[0] - where[0], there[1] - where[1], other - vertex))
    above = np.zeros(sitk.GetArrayViewFromImage(image).shape, np.uint8)
    above[max(0, int(vertex) - 150) :] = 1  # what both show: necks end where they like
    mask = sitk.GetImageFromArray(above)
    for shrink, smooth in ((4, 3.0), (2, 1.0)):
        method = _method(mask, shrink, smooth)
        method.SetOptimizerAsGradientDescent(1.0, 150, 1e-6, 10)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(affine, True)
        method.Execute(image, moving)
        reporter.advance()
    spline = sitk.BSplineTransformInitializer(image, [8, 9, 8], 3)
    for shrink, smooth in ((4, 2.0), (2, 1.0)):
        method = _method(mask, shrink, smooth)
        method.SetOptimizerAsLBFGSB(1e-5, 25)
        method.SetMovingInitialTransform(affine)
        method.SetInitialTransform(spline, True)
        method.Execute(image, moving)
        reporter.advance()
    fine = _demons(image, moving, sitk.CompositeTransform([affine, spline]), reporter)
    return sitk.CompositeTransform([affine, spline, fine])


def _demons(image: sitk.Image, moving: sitk.Image, coarse: sitk.Transform, reporter: Reporter) -> sitk.Transform:
    """What is left after ``coarse``, by intensities that are made alike."""
    near = sitk.Resample(moving, image, coarse, sitk.sitkLinear, 0)
    white = sitk.GetArrayFromImage(near) > 0.95 * t.WHITE.t1w
    scaled = sitk.Cast(image / float(np.median(sitk.GetArrayFromImage(image)[white])), sitk.sitkFloat32)
    near = sitk.HistogramMatching(near, scaled, 128, 12, True)
    field = None
    for shrink, deviation, iterations in ((2, 1.6, 25), (1, 1.3, 12)):
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetStandardDeviations(deviation)
        demons.SetNumberOfIterations(iterations)
        pair = [
            sitk.Shrink(sitk.SmoothingRecursiveGaussian(each, 1.0), [2] * 3) if shrink > 1 else each
            for each in (scaled, near)
        ]
        field = demons.Execute(*pair) if field is None else demons.Execute(*pair, sitk.Resample(field, pair[0]))
        reporter.advance()
    assert field is not None
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def _vertex(values: Values) -> tuple[float, tuple[float, float]]:
    """Height of the vertex, and where (x, y) the middle of the head is below it."""
    head = ndimage.binary_opening(values > 0.25 * np.percentile(values, 97), iterations=2)
    top = int(np.flatnonzero(head.sum((1, 2)) > 200).max())
    middle = np.argwhere(head[max(0, top - 90) : top - 20]).mean(0)
    return float(top), (float(middle[2]), float(middle[1]))


def _method(mask: sitk.Image, shrink: int, smooth: float) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(40)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, 1)
    method.SetMetricFixedMask(mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([shrink])
    method.SetSmoothingSigmasPerLevel([smooth])
    return method


def by_parcels(labels: Labels, parcels: Labels) -> Labels:
    """The brain as FreeSurfer parcels it; what was carried there and is no parcel is fluid."""
    ours = np.zeros_like(parcels)
    known = np.isin(parcels, list(t.SOURCE_LABELS))
    ours[known] = parcels[known]
    ours[(parcels >= 1000) & (parcels < 2000)], ours[parcels >= 2000] = CORTEX
    for parcel, label in _PARCELS.items():
        ours[parcels == parcel] = label
    found = np.where(np.isin(labels, t.SOURCE_BRAIN), CSF, labels)
    found[ours > 0] = ours[ours > 0]
    return found


def by_intensity(labels: Labels, values: Values, brain: Mask) -> Labels:
    """Fluid, cortex and white matter of the cerebrum, and the ventricles, by the T1 (white matter 1)."""
    x = ndimage.gaussian_filter(values, 0.5)
    dark, bright = between_classes(x[brain & (x < 1.6)], 3)
    found = labels.copy()
    right = ndimage.grey_dilation(np.where(np.isin(labels, (41, 42)), 2, np.isin(labels, (2, 3)).astype(int)), 3) == 2
    soft = np.isin(labels, (*WHITE, *CORTEX, CSF))
    found[soft & (x < dark)] = CSF
    for side, white, cortex in zip((~right, right), WHITE, CORTEX, strict=True):
        found[soft & side & (x >= dark) & (x < bright)] = cortex
        found[soft & side & (x >= bright) & (x < _NOT_BRAIN)] = white
    inner = np.isin(found, WHITE)
    core = ndimage.binary_dilation(largest_piece(ndimage.binary_erosion(inner)), iterations=3)
    found[inner & ~core] = CORTEX[0]  # bright as white matter, but on its own: meninges and vessels
    ventricle = np.isin(labels, VENTRICLES)
    around = ndimage.binary_dilation(ventricle, iterations=4) & np.isin(labels, (*WHITE, *VENTRICLES))
    found[around & (x < dark)] = VENTRICLES[0]
    found[ventricle & (x > bright)] = WHITE[0]
    return found


def with_skull(labels: Labels, values: Values, inside: Mask) -> Labels:
    """Compact bone where the T1 is dark around the brain, marrow where it is bright in it, nothing outside the head."""
    found = labels.copy()
    body = largest_piece(ndimage.binary_opening(ndimage.gaussian_filter(values, 1) > 0.12, iterations=2))
    edge = 12  # voxels: so that closing does not end at the image's border
    whole = np.pad(body | (found == BONE) | inside, edge, mode="edge")
    head = ndimage.binary_closing(whole, iterations=8)[edge:-edge, edge:-edge, edge:-edge]
    eyes = np.argwhere(found == EYE)
    base = int(eyes[:, 0].mean()) + 8 if len(eyes) else 60  # the skull's base has air and vessels, as dark as bone
    around, below = ndimage.distance_transform_edt(~inside), ndimage.distance_transform_edt(head)
    ring = head & ~inside & (around < _SKULL_MM) & (below > _SCALP_MM)
    ring[:base] = False
    x = ndimage.gaussian_filter(values, 0.5)
    found[ring & (x < _DARK) & ~np.isin(found, (EYE, NERVE))] = BONE
    found[ring & (found == BONE) & (x > _BRIGHT) & (around > _TABLE_MM)] = MARROW
    found[ring & np.isin(found, (FLESH, SKIN)) & (around < 2 * _TABLE_MM)] = BONE
    found[~head] = 0
    found[head & (found == 0) & (x > 0.15)] = FLESH
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m Training.transfer_labels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("t1", type=Path, help="T1 of a head, with its skull")
    parser.add_argument("labels", type=Path, help="label map of another head, down to the neck")
    parser.add_argument("out", type=Path, help="label map to write; the T1 itself goes to the folder t1 beside it")
    parser.add_argument("--parcellation", type=Path, help="FreeSurfer's aparc+aseg of the same T1")
    shown = TerminalReporter()
    try:
        transfer(**vars(parser.parse_args()), reporter=shown)
    except DiffMaError as problem:
        shown.close()
        parser.exit(2, f"{problem}\n")
    shown.close()
