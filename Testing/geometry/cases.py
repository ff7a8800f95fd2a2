"""CT heads with three marks at known millimetres, written in every format, and where these marks are found later.

What stands in a file is computed here from the definition of its format, not by the readers that are tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from Testing.imaging.dicom_files import write_slice

FORMATS = ("nii.gz", "nii, qform", "nii, sform", "nrrd, LPS", "nrrd, RAS", "mha", "dicom")
OUTPUTS = (".nii.gz", ".nii", ".nrrd", ".mha", "")
BRAIN_HU = 40.0
HALF_AXES = np.array([70.0, 85.0, 75.0])  # mm of the head
# mm from the head's middle (to the left, the back and the top), and HU above the brain
MARKS = {
    "left": ((34.0, 5.0, -4.0), 400.0),
    "front": ((-6.0, -40.0, 3.0), 1000.0),
    "top": ((4.0, 8.0, 36.0), 2500.0),
}


@dataclass(frozen=True)
class Case:
    """A CT's place in space and in a file.

    Attributes:
        kind, output: format that it is read from, one of ``FORMATS``, and extension of the result.
        spacing: mm along the three image axes.
        axes: which image axis runs along which axis of the patient, and whether it runs the other way.
        turn: rotation vector in radians, on top of that.
        centre: of the head, mm, LPS.
        seed: of everything small: the order of the slices, the parts of a voxel by which the grid is shifted.
        tilt: mm that a DICOM slice is shifted, along rows and columns, for a mm of its normal.
        gap: whether a DICOM series lacks one of its slices.
        decimals: of the DICOM positions and directions.
    """

    kind: str
    output: str
    spacing: tuple[float, float, float]
    axes: tuple[int, ...]
    flips: tuple[int, ...]
    turn: tuple[float, float, float]
    centre: tuple[float, float, float]
    seed: int
    tilt: tuple[float, float] = (0.0, 0.0)
    gap: bool = False
    decimals: int = 9

    @property
    def direction(self) -> np.ndarray:
        """Columns are the directions of the image axes; a DICOM stack follows the normal of its slices."""
        matrix = Rotation.from_rotvec(self.turn).as_matrix() @ np.diag(self.flips)[:, list(self.axes)]
        if self.kind == "dicom":
            matrix[:, 2] = np.cross(matrix[:, 0], matrix[:, 1])
        return matrix

    @property
    def mark_sigma(self) -> float:
        """mm: two voxels or more across."""
        return max(4.5, 0.85 * max(self.spacing))


_angle = st.one_of(st.just(0.0), st.floats(-0.6, 0.6))
_tilts = st.one_of(st.just((0.0, 0.0)), st.tuples(*[st.floats(-0.4, 0.4)] * 2))
cases = st.builds(
    Case,
    kind=st.sampled_from(FORMATS),
    output=st.sampled_from(OUTPUTS),
    spacing=st.tuples(st.floats(1.2, 5), st.floats(1.2, 5), st.floats(2.5, 6.5)),
    axes=st.permutations(range(3)).map(tuple),
    flips=st.tuples(*[st.sampled_from((1, -1))] * 3),
    turn=st.tuples(_angle, _angle, _angle),
    centre=st.tuples(*[st.floats(-900, 900)] * 3),
    seed=st.integers(0, 2**31),
    tilt=_tilts,
    gap=st.booleans(),
    decimals=st.integers(3, 9),
)


def positions(case: Case, shape: tuple[int, int], along: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Of all voxels (slices, rows, columns, 3), in mm, of slices whose first pixels lie at ``along`` + ``origin``."""
    rows, columns = (np.arange(n) * case.spacing[axis] for n, axis in zip(shape, (1, 0), strict=True))
    place = origin + along[:, None, None] + rows[:, None, None] * case.direction[:, 1]
    return place + columns[:, None] * case.direction[:, 0]


def hounsfield(places: np.ndarray, case: Case) -> np.ndarray:
    """A smooth head with its marks at points (..., 3)."""
    places = places - case.centre
    radius = np.linalg.norm(places / HALF_AXES, axis=-1)
    hu = -1000 + (BRAIN_HU + 1000) / (1 + np.exp((radius - 0.9) * 30))
    for middle, height in MARKS.values():
        hu += height * np.exp(-((places - middle) ** 2).sum(axis=-1) / (2 * case.mark_sigma**2))
    return hu.astype(np.float32)


def write_case(case: Case, folder: Path) -> Path:
    """Write the CT; returns what ``diffma convert`` is given."""
    rng = np.random.default_rng(case.seed)
    direction, spacing = case.direction, np.array(case.spacing)
    size = np.ceil((np.abs(direction).T @ (2 * HALF_AXES) + 16) / spacing).astype(int)
    shear = np.array([*case.tilt, 0.0]) if case.kind == "dicom" else np.zeros(3)
    # the slices drift away from the head: the planes are larger
    size[:2] += np.ceil(np.abs(shear[:2]) * size[2] * spacing[2] / spacing[:2]).astype(int)
    step = direction[:, 2] + direction @ shear
    along = np.arange(size[2])[:, None] * spacing[2] * step
    middle = direction @ ((size - 1) / 2 * spacing * [1, 1, 0]) + along.mean(axis=0)
    origin = case.centre - middle + direction @ (rng.uniform(-0.5, 0.5, 3) * spacing)
    if case.kind == "dicom":
        return _write_dicom(case, folder / "ct", (size[1], size[0]), along, origin, rng)
    array = hounsfield(positions(case, (size[1], size[0]), along, origin), case)
    if case.kind.startswith("nrrd"):
        return _write_nrrd(case, folder / "ct.nrrd", array, origin)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(case.spacing)
    image.SetOrigin(origin.tolist())
    image.SetDirection(direction.ravel().tolist())
    path = folder / f"ct.{case.kind.partition(',')[0]}"
    sitk.WriteImage(image, str(path))
    if "form" in case.kind:  # leave one of the two ways in which NIfTI says where an image lies
        content = bytearray(path.read_bytes())
        place = 254 if "qform" in case.kind else 252
        content[place : place + 2] = b"\0\0"
        path.write_bytes(content)
    return path


def _write_nrrd(case: Case, path: Path, array: np.ndarray, origin: np.ndarray) -> Path:
    flip = np.array([-1, -1, 1]) if "RAS" in case.kind else np.ones(3)
    space = "right-anterior-superior" if "RAS" in case.kind else "left-posterior-superior"
    vectors = [",".join(repr(float(x)) for x in row) for row in (case.direction * case.spacing).T * flip]
    lines = [
        "NRRD0004", "type: float", "dimension: 3", f"space: {space}", "endian: little", "encoding: raw",
        "sizes: " + " ".join(map(str, array.shape[::-1])), "kinds: domain domain domain",
        "space directions: " + " ".join(f"({vector})" for vector in vectors),
        "space origin: (" + ",".join(repr(float(x)) for x in origin * flip) + ")",
    ]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + array.astype("<f4").tobytes())
    return path


def _write_dicom(
    case: Case, folder: Path, shape: tuple[int, int], along: np.ndarray, origin: np.ndarray, rng: np.random.Generator
) -> Path:
    kept = np.delete(np.arange(len(along)), [len(along) // 3] if case.gap else [])
    hu = hounsfield(positions(case, shape, along, origin), case)
    instances = rng.permutation(len(kept)) + 1
    orientation = tuple(np.round(case.direction[:, :2].T.ravel(), case.decimals).tolist())
    for number, k in zip(instances.tolist(), kept.tolist(), strict=True):
        write_slice(
            folder / f"{rng.integers(1 << 30):x}",
            hu[k],
            tuple(np.round(origin + along[k], case.decimals).tolist()),
            instance=number,
            orientation=orientation,
            spacing=(case.spacing[1], case.spacing[0]),
        )
    return folder


def read_result(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels (z, y, x), origin, and the steps in mm along the image axes as columns, by other readers than ours."""
    if path.is_dir():
        slices = [pydicom.dcmread(file) for file in sorted(path.iterdir())]
        first = slices[0]
        row, column = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
        places = np.array([s.ImagePositionPatient for s in slices], float)
        array = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
        step = (places[-1] - places[0]) / (len(slices) - 1)
        between_rows, between_columns = map(float, first.PixelSpacing)
        return array, places[0], np.stack([row * between_columns, column * between_rows, step], axis=1)
    image = sitk.ReadImage(str(path))
    steps = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    return sitk.GetArrayFromImage(image), np.array(image.GetOrigin()), steps


def mark_errors(case: Case, path: Path, base: float) -> dict[str, tuple[float, float]]:
    """By mark: how far from its place it is found, in voxels of the result, and how much higher than the brain.

    The brain is ``base`` in the result. The mark is looked for in all of the head's inner part.
    """
    array, origin, steps = read_result(path)
    index = np.moveaxis(np.indices(array.shape)[::-1], 0, -1)
    places = index @ steps.T + origin - case.centre
    errors = {}
    for name, (middle, height) in MARKS.items():
        # a mark that went elsewhere is not there, and what is there instead is of another height
        near = np.linalg.norm(places - middle, axis=-1) < 3.2 * case.mark_sigma
        mass = np.clip(array - base - 0.2 * height, 0, None) * near
        found = (places * mass[..., None]).sum(axis=(0, 1, 2)) / max(mass.sum(), 1e-9)
        errors[name] = (
            float(np.abs(np.linalg.solve(steps, found - middle)).max()),
            float((array[near].max() if near.any() else 0) - base),
        )
    return errors
