"""A path in, paired volumes out: which kind of data set it is, and its cases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from DiffMaCore.errors import InputError
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.sources.case import CaseSlices, RawCase, RawPair
from DiffMaCore.training.sources.heads import heads_cases
from DiffMaCore.training.sources.pictures import cases_of_authors, cases_of_npz, is_authors_folder
from DiffMaCore.training.sources.volumes import cases_of_csv, cases_of_folders, find_case_folders

__all__ = ["CaseSlices", "RawCase", "RawPair", "find_cases"]

KINDS = (
    "SynthRAD's Task1 folder (or any with a folder a case that holds ct.nii.gz, mr.nii.gz and mask.nii.gz), the"
    " authors' folders of .npy slices, a .csv that names pairs of volumes, or .npz files of paired slices"
)

_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]")  # ids name files


def find_cases(paths: Sequence[Path], data: DataConfig, seed: int) -> list[RawCase]:
    """All cases behind ``paths``, sorted by id; rendered heads where ``data.heads`` asks for them.

    Nothing but names and tables is read here. Raises InputError: a path that is no data set, a case that lacks a
    modality, or one id for two cases.
    """
    if data.heads is not None and paths:
        raise InputError(f"the configuration asks for rendered heads and {paths[0]} is given; take data.heads out")
    if data.heads is not None:
        return heads_cases(data, seed)
    if data.contrasts:
        raise InputError("data.contrasts is for rendered heads; name the one contrast of these cases as data.target")
    if not paths:
        raise InputError(f"no data set is given; name {KINDS}")
    cases: dict[str, RawCase] = {}
    for found in (found for path in paths for found in _cases_of(Path(path), data)):
        case = replace(found, id=_NOT_IN_FILE_NAMES.sub("_", found.id))
        known = cases.setdefault(case.id, case)
        if {f.resolve() for f in known.files} != {f.resolve() for f in case.files}:
            raise InputError(
                f"the case {case.id} is there twice, in {known.files[0].parent} and {case.files[0].parent};"
                " give one of them, or name both in a CSV with ids of their own and the column patient"
            )
    return [cases[case_id] for case_id in sorted(cases)]


def _cases_of(path: Path, data: DataConfig) -> list[RawCase]:
    if not path.exists():
        raise InputError(f"{path} does not exist; check the spelling of the path")
    suffix = path.suffix.lower()
    if path.is_file():
        if suffix == ".csv":
            return cases_of_csv(path, data)
        if suffix == ".npz":
            return cases_of_npz([path], path, data)
        unpack = "unpack it and give its folder" if suffix in (".zip", ".gz", ".tar") else f"give {KINDS}"
        raise InputError(f"{path} is no data set; {unpack}")
    archives = sorted(path.glob("*.npz"))
    if archives:
        return cases_of_npz(archives, path, data)
    if is_authors_folder(path):
        return cases_of_authors(path, data)
    folders = find_case_folders(path)
    if folders:
        return cases_of_folders(folders, path, data)
    inside = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
    raise InputError(f"{path} is no data set (it holds {inside}); give {KINDS}")
