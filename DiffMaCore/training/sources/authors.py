"""The slices that the paper's authors published: folders of ``.npy`` files, A the MRI, B the CT, C the mask.

``A_train``, ``train_A_norm`` and the like belong together with the same names around B and C, and so do the files in
them that have one name. Values lie in [-1, 1], the CT's over an HU window that nobody wrote down
(``eight_bit_window`` says what they stand for here). The authors' own split went by slice, so their train and test
folders are joined and split anew by patient. File names tell the patient (1BA001_012.npy, p07-3.npy); where they are
mere numbers, a ``patients.csv`` with the columns file, patient (and perhaps centre) beside the folders must.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.inputs import read_table
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.sources.case import RawCase, RawPair
from DiffMaCore.training.sources.naming import centre_of, of_anatomy, synthrad_id
from DiffMaCore.training.sources.slices import picture_body, stack, windowed_ct

TABLE = "patients.csv"
_ROLE = re.compile(r"(?:^|(?<=_))([ABC])(?=_|$)")
_FOLDERS = {"mr": "A", "ct": "B", "mask": "C"}
_BEYOND = 1.01  # rounding aside, no value lies outside [-1, 1]

Slices = dict[str, Path]


def is_authors_folder(folder: Path) -> bool:
    """Whether ``folder`` holds folders named with an A and a B of which one has ``.npy`` files."""
    groups = _groups(folder).values()
    return any({"A", "B"} <= roles.keys() for roles in groups)


def cases_of_authors(folder: Path, data: DataConfig) -> list[RawCase]:
    """One case a patient, its slices in the order of their numbers.

    Raises InputError: a modality other than ct and mr, an MRI without its CT or the reverse, or unknown patients.
    """
    for name in (data.source, data.target):
        if name not in ("ct", "mr"):
            raise InputError(
                f"the authors' slices in {folder} have ct and mr only; set data: source and target to them"
            )
    patients: dict[str, list[Slices]] = defaultdict(list)
    centres: dict[str, str] = {}
    table = _table(folder / TABLE)
    for name, roles in _groups(folder).items():
        for file, slices in _paired(roles, folder / name).items():
            patient, centre = table.get(file) or table.get(Path(file).stem) or _patient(file, folder)
            patients[patient].append(slices)
            centres[patient] = centre
    wanted = sorted(p for p in patients if of_anatomy(p, data.anatomy))
    if not wanted:
        raise InputError(f"{folder} holds no case of the anatomy {data.anatomy!r}; correct data: anatomy")
    return [_case(p, centres[p], sorted(patients[p], key=_number), data) for p in wanted]


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
    if not path.is_file():
        return {}
    rows = read_table(path)
    if not all(row.get("file") and row.get("patient") for row in rows):
        raise InputError(f"{path} must tell file and patient in every row; fill these columns")
    return {row["file"]: (row["patient"], row.get("centre", "")) for row in rows}


def _patient(file: str, folder: Path) -> tuple[str, str]:
    stem = Path(file).stem
    patient = synthrad_id(stem)
    if patient is None:
        found = re.fullmatch(r"(.*[A-Za-z0-9])[_\-. ]+[A-Za-z]*\d+", stem)
        patient = found.group(1) if found else None
    if patient is None:
        raise InputError(
            f"the name {file} does not tell the patient, and a split by slice would leak; write {folder / TABLE} with"
            " the columns file, patient (and centre)"
        )
    return patient, centre_of(patient)


def _number(slices: Slices) -> tuple[list[int], str]:
    name = slices["ct"].stem
    return [int(n) for n in re.findall(r"\d+", name)], name


def _case(patient: str, centre: str, slices: list[Slices], data: DataConfig) -> RawCase:
    files = tuple(path for each in slices for path in each.values())
    return RawCase(patient, centre, partial(_load, patient, slices, data), files)


def _load(patient: str, slices: list[Slices], data: DataConfig) -> RawPair:
    """The stack; slices that hold a NaN, as some of the published ones do, are left out and counted."""
    read = [{kind: _read(path) for kind, path in each.items()} for each in slices]
    whole = [each for each in read if np.isfinite(each["ct"]).all() and np.isfinite(each["mr"]).all()]
    if not whole:
        raise InputError(f"every slice of {patient} holds NaN; fetch the slices again")
    shapes = {array.shape for each in whole for array in each.values()}
    if len(shapes) > 1:
        raise InputError(f"the slices of {patient} have several sizes ({sorted(shapes)}); give slices of one size")
    notes = (f"{len(read) - len(whole)} slices hold NaN and were left out.",) if len(whole) < len(read) else ()
    ct, mr = (np.stack([each[kind] for each in whole]) * np.float32(0.5) + np.float32(0.5) for kind in ("ct", "mr"))
    body = np.stack([each["mask"] > 0 for each in whole]) if all("mask" in e for e in whole) else picture_body(ct)
    images = {"ct": stack(windowed_ct(ct, body, data), data), "mr": stack(mr, data)}
    labels = sitk.Cast(stack(body.astype(np.float32), data), sitk.sitkUInt8)
    return RawPair(images[data.source], images[data.target], labels, notes)


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
