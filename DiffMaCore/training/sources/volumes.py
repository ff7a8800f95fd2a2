"""Paired volumes: SynthRAD as it unpacks, every folder of that kind, and any pairs that a CSV names.

SynthRAD 2023: ``Task1/{brain,pelvis}/1BA001/{ct,mr,mask}.nii.gz``. 2025: ``Task1/{AB,HN,TH}/1ABA005/{ct,mr,mask}.mha``.
Any folder above the cases, or a case itself, may be given. A patient of another part of the body than the experiment's
is passed over, so ``Task1`` serves a brain and a pelvis experiment.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import chain
from pathlib import Path

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.inputs import read_table
from DiffMaCore.imaging.reading import is_volume_file
from DiffMaCore.imaging.writing import split_extension
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.sources.case import RawCase, centre_of, of_anatomy, read_pair

COLUMNS = "id, source, target and, if there are any, mask, centre, patient"
_MODALITIES = {"ct", "mr", "cbct", "t1", "t2", "flair"}
_PASSED_OVER = "overview"  # pictures and tables that come with every SynthRAD archive


def find_case_folders(folder: Path) -> dict[Path, dict[str, Path]]:
    """Every folder at or below ``folder`` that holds a file named as a modality: {folder: {"ct": file, ...}}."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n != _PASSED_OVER)
        paths = (Path(place) / name for name in sorted(names) if is_volume_file(Path(name)))
        files = {split_extension(path)[0].lower(): path for path in paths}
        if _MODALITIES & files.keys():
            found[Path(place)] = files
    return found


def cases_of_folders(folders: dict[Path, dict[str, Path]], given: Path, data: DataConfig) -> list[RawCase]:
    """The cases of the experiment's modalities and part of the body.

    Raises InputError naming the first case that lacks a modality, or where no case is of the part of the body.
    """
    kept = of_anatomy((place.name for place in folders), given, data)
    wanted = {place: files for place, files in folders.items() if place.name in kept}
    lacking = [place for place, files in wanted.items() if not {data.source, data.target} <= files.keys()]
    if not lacking:
        cases = []
        for place, files in wanted.items():
            read = [files[name] for name in (data.source, data.target, "mask") if name in files]
            name = place.resolve().name
            cases.append(RawCase(name, centre_of(name), partial(read_pair, data, *read), tuple(read)))
        return cases
    first, stored = lacking[0], wanted[lacking[0]]
    missing = " and ".join(m for m in (data.source, data.target) if m not in stored)
    others = sorted(_MODALITIES & stored.keys() - {data.source, data.target})
    remedy = f"add it or move the folder out of {given}"
    if others == ["cbct"]:
        remedy = "these are cases of Task 2 (cone-beam CT to CT); give Task1"
    elif others:
        remedy = f"set source or target to {' or '.join(others)} in the configuration, or give the right data set"
    more = f" ({len(lacking)} of {len(wanted)} cases lack something)" if len(lacking) > 1 else ""
    raise InputError(
        f"the case {first.name} lacks {missing}{more}: {data.source} and {data.target} are needed, and it holds"
        f" {', '.join(path.name for path in stored.values())}; {remedy}"
    )


def cases_of_csv(path: Path, data: DataConfig) -> list[RawCase]:
    """The cases of a table with the columns id, source, target (or the modalities' names), and perhaps mask, centre
    and patient; relative paths start at the table's folder.

    Raises InputError naming the row: a column or a file that is not there.
    """
    cases = []
    for number, row in enumerate(read_table(path), start=2):
        where = f"{path}, line {number}"
        if not any(row.values()):
            continue
        if not row.get("id"):
            raise InputError(f"{where} has no id; the columns are {COLUMNS}")
        columns = [("source", data.source), ("target", data.target), *([("mask",)] if row.get("mask") else [])]
        read = [_file(row, names, path.parent, where) for names in columns]
        files = [[place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file()) for place in read]
        centre = row.get("centre") or row.get("center") or centre_of(row["id"])
        load = partial(read_pair, data, *read)
        cases.append(RawCase(row["id"], centre, load, tuple(chain(*files)), row.get("patient") or None))
    if not cases:
        raise InputError(f"{path} names no case; give one row a case with the columns {COLUMNS}")
    return cases


def _file(row: dict[str, str], names: tuple[str, ...], folder: Path, where: str) -> Path:
    text = next((row[name] for name in names if row.get(name)), "")
    if not text:
        raise InputError(f"{where} names no {' or '.join(dict.fromkeys(names))}; the columns are {COLUMNS}")
    path = folder / text
    if not path.exists():
        raise InputError(f"{where}: there is no {path}; correct the path (it starts at the table's folder)")
    return path
