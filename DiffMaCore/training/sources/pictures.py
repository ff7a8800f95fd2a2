"""Paired stacks of pictures, windowed CTs without HU, spacing or air: 8-bit slices, and what the authors published.

8-bit slices: one ``.npz`` a patient, one array (slices, rows, columns) a modality, and perhaps a mask.

The paper's authors published folders of ``.npy`` files, A the MRI, B the CT, C the mask. ``A_train``, ``train_A_norm``
and the like belong together with the same names around B and C, and so do the files in them that have one name. Values
lie in [-1, 1], the CT's over an HU window that nobody wrote down (``eight_bit_window`` says what they stand for here).
The authors' own split went by slice, so their train and test folders are joined and split anew by patient. File names
tell the patient (1BA001_012.npy, p07-3.npy); where they are mere numbers, a ``patients.csv`` with the columns file,
patient (and perhaps centre) next to the folders must.
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.body import largest_piece
from DiffMaCore.imaging.grid import AIR_HU
from DiffMaCore.imaging.inputs import read_table
from DiffMaCore.training.experiment import CT, DataConfig
from DiffMaCore.training.sources.case import RawCase, RawPair, centre_of, of_anatomy, synthrad_id

SLICE_MM = 5.0  # between slices where nothing tells: thick enough that no step looks across them
TABLE = "patients.csv"
_BLACK = 0.04  # of the range: noise of the background lies below
_CLOSING = 4  # pixels: scalp and fat are black in a narrow window, and so are gaps between what is not
_ROLE = re.compile(r"(?:^|(?<=_))([ABC])(?=_|$)")
_FOLDERS = {"mr": "A", "ct": "B", "mask": "C"}
_BEYOND = 1.01  # rounding aside, no value lies outside [-1, 1]

Slices = dict[str, Path]


def _stack(array: NDArray[np.float32], data: DataConfig) -> sitk.Image:
    """Slices (N, H, W), rows to the back and columns to the left, as an axial image of ``eight_bit_spacing``."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((data.eight_bit_spacing, data.eight_bit_spacing, SLICE_MM))
    return image


def _pair(
    images: dict[str, NDArray[np.float32]], body: NDArray[np.bool_], data: DataConfig, notes: tuple[str, ...] = ()
) -> RawPair:
    """Volumes of pictures (N, H, W) by modality; a CT in [0, 1] becomes HU.

    0 and 1 are the ends of ``eight_bit_window``, outside the body is air: a narrow window shows air and fat alike
    black; as air outside the body it can be told from what is inside.
    """
    low, high = data.eight_bit_window
    volumes = {
        name: _stack(np.where(body, np.float32(low) + array * np.float32(high - low), np.float32(AIR_HU)), data)
        if name == CT
        else _stack(array, data)
        for name, array in images.items()
    }
    labels = sitk.Cast(_stack(body.astype(np.float32), data), sitk.sitkUInt8)
    return RawPair(volumes[data.source], volumes[data.target], labels, notes)


def picture_body(array: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The body in pictures (N, H, W) in [0, 1]: in each the largest piece that is not black, closed and filled."""
    body = np.zeros(array.shape, bool)
    for number, plane in enumerate(array):
        bright = np.pad(ndimage.binary_opening(plane > _BLACK), _CLOSING)
        closed = ndimage.binary_closing(bright, iterations=_CLOSING)[_CLOSING:-_CLOSING, _CLOSING:-_CLOSING]
        body[number] = largest_piece(ndimage.binary_fill_holes(closed))
    return body


def cases_of_npz(files: list[Path], given: Path, data: DataConfig) -> list[RawCase]:
    """One case a file of the experiment's part of the body (files whose name says another are passed over).

    Raises InputError naming the first file that is damaged or lacks a modality.
    """
    kept = of_anatomy((path.stem for path in files), given, data)
    wanted = [path for path in files if path.stem in kept]
    for path in wanted:
        try:
            with zipfile.ZipFile(path) as archive:
                stored = [name.removesuffix(".npy") for name in archive.namelist()]
        except (OSError, zipfile.BadZipFile):
            raise InputError(f"{path} is no intact .npz file; copy it again") from None
        missing = [name for name in (data.source, data.target) if name not in stored]
        if missing:
            raise InputError(
                f"{path} has no array {' and '.join(missing)} but {', '.join(stored)};"
                " set data: source and target to two of these"
            )
    return [RawCase(path.stem, centre_of(path.stem), partial(_load_npz, path, data), (path,)) for path in wanted]


def read_npz(path: Path, names: Iterable[str]) -> dict[str, NDArray]:
    """Those of the named arrays that a file holds; InputError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names if name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as problem:
        raise InputError(f"{path} cannot be read ({problem}); copy it again") from None


def _load_npz(path: Path, data: DataConfig) -> RawPair:
    arrays = read_npz(path, (data.source, data.target, "mask"))
    mask = arrays.pop("mask", None)
    for name, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim != 3:
            raise InputError(
                f"{path}: the array {name} is {array.dtype} of shape {array.shape}; uint8 (slices, rows, columns) is"
                " needed (name volumes with units in a CSV instead)"
            )
    images = {name: array.astype(np.float32) / np.float32(255 if name == CT else 1) for name, array in arrays.items()}
    shown = arrays[CT if CT in arrays else data.source]
    body = mask > 0 if mask is not None else picture_body(shown.astype(np.float32) / np.float32(255))
    if body.shape != shown.shape:
        raise InputError(f"{path}: the mask has the shape {body.shape}, the images {shown.shape}; correct the mask")
    return _pair(images, body, data)


def is_authors_folder(folder: Path) -> bool:
    """Whether ``folder`` holds folders named with an A and a B of which one has ``.npy`` files."""
    return any({"A", "B"} <= roles.keys() for roles in _groups(folder).values())


def cases_of_authors(folder: Path, data: DataConfig) -> list[RawCase]:
    """One case a patient, its slices in the order of their numbers.

    Raises InputError: a modality other than ct and mr, an MRI without its CT or the reverse, or unknown patients.
    """
    if not {data.source, data.target} <= {"ct", "mr"}:
        raise InputError(f"the authors' slices in {folder} have ct and mr only; set data: source and target to them")
    patients: dict[str, list[Slices]] = defaultdict(list)
    centres: dict[str, str] = {}
    table = _table(folder / TABLE)
    for name, roles in _groups(folder).items():
        for file, slices in _paired(roles, folder / name).items():
            patient, centre = table.get(file) or table.get(Path(file).stem) or _patient(file, folder)
            patients[patient].append(slices)
            centres[patient] = centre

    def number(slices: Slices) -> tuple[list[int], str]:
        name = slices["ct"].stem
        return [int(n) for n in re.findall(r"\d+", name)], name

    cases = []
    for patient in sorted(of_anatomy(patients, folder, data)):
        ordered = sorted(patients[patient], key=number)
        files = tuple(path for each in ordered for path in each.values())
        cases.append(RawCase(patient, centres[patient], partial(_load_npy, patient, ordered, data), files))
    return cases


def _groups(folder: Path) -> dict[str, dict[str, Path]]:
    """Folders with ``.npy`` files by their name without the letter: {"_train": {"A": folder, "B": ..., "C": ...}}."""
    groups: dict[str, dict[str, Path]] = defaultdict(dict)
    for place in sorted([p for p in folder.iterdir() if p.is_dir()] + [p for p in folder.glob("*/*") if p.is_dir()]):
        role = _ROLE.search(place.name)
        if role and next(place.glob("*.npy"), None):
            around = _ROLE.sub("*", place.name, count=1)
            groups[str(place.parent.relative_to(folder) / around)][role.group(1)] = place
    return groups


def _paired(roles: dict[str, Path], where: Path) -> dict[str, Slices]:
    files = {role: {p.name: p for p in place.glob("*.npy")} for role, place in roles.items()}
    ct, mr = files.get("B", {}), files.get("A", {})
    single = sorted(ct.keys() ^ mr.keys())
    if single:
        lacking = "MRI (A)" if single[0] in ct else "CT (B)"
        raise InputError(f"{single[0]} of {where} has no {lacking}; the folders A and B need the same files")
    return {
        name: {kind: files[role][name] for kind, role in _FOLDERS.items() if name in files.get(role, {})} for name in ct
    }


def _table(path: Path) -> dict[str, tuple[str, str]]:
    rows = read_table(path) if path.is_file() else []
    if not all(row.get("file") and row.get("patient") for row in rows):
        raise InputError(f"{path} must tell file and patient in every row; fill these columns")
    return {row["file"]: (row["patient"], row.get("centre", "")) for row in rows}


def _patient(file: str, folder: Path) -> tuple[str, str]:
    stem = Path(file).stem
    found = re.fullmatch(r"(.*[A-Za-z0-9])[_\-. ]+[A-Za-z]*\d+", stem)
    patient = synthrad_id(stem) or (found.group(1) if found else None)
    if patient is None:
        raise InputError(
            f"the name {file} does not tell the patient, and a split by slice would leak; write {folder / TABLE} with"
            " the columns file, patient (and centre)"
        )
    return patient, centre_of(patient)


def _load_npy(patient: str, slices: list[Slices], data: DataConfig) -> RawPair:
    """The stack; slices that hold a NaN, as some of the published ones do, are left out and counted."""
    read = [{kind: _read(path) for kind, path in each.items()} for each in slices]
    whole = [each for each in read if np.isfinite(each["ct"]).all() and np.isfinite(each["mr"]).all()]
    if not whole:
        raise InputError(f"every slice of {patient} holds NaN; fetch the slices again")
    shapes = {array.shape for each in whole for array in each.values()}
    if len(shapes) > 1:
        raise InputError(f"the slices of {patient} have several sizes ({sorted(shapes)}); give slices of one size")
    notes = (f"{len(read) - len(whole)} slices hold NaN and were left out.",) if len(whole) < len(read) else ()
    stacks = {kind: np.stack([each[kind] for each in whole]) for kind in ("ct", "mr")}
    images = {kind: stack * np.float32(0.5) + np.float32(0.5) for kind, stack in stacks.items()}
    masked = all("mask" in each for each in whole)
    body = np.stack([each["mask"] > 0 for each in whole]) if masked else picture_body(images["ct"])
    return _pair(images, body, data, notes)


def _read(path: Path) -> NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False).astype(np.float32).squeeze()
    except (OSError, ValueError, EOFError) as problem:
        raise InputError(f"{path} cannot be read ({problem}); fetch it again") from None
    if array.ndim != 2:
        raise InputError(f"{path} has the shape {array.shape}; a slice of rows and columns is needed")
    if np.nanmax(np.abs(array), initial=0) > _BEYOND:
        raise InputError(f"{path} holds values beyond [-1, 1]; these are not the authors' slices, name them in a CSV")
    return np.clip(array, -1, 1)
