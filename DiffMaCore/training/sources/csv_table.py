"""Any paired volumes, named by a CSV: one row a case."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.inputs import read_table
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.sources.case import RawCase, read_pair
from DiffMaCore.training.sources.naming import centre_of

COLUMNS = "id, source, target and, if there are any, mask, centre, patient"


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
        source = _file(row, ("source", data.source), path.parent, where)
        target = _file(row, ("target", data.target), path.parent, where)
        mask = _file(row, ("mask",), path.parent, where) if row.get("mask") else None
        cases.append(
            RawCase(
                id=row["id"],
                centre=row.get("centre") or row.get("center") or centre_of(row["id"]),
                load=partial(read_pair, source, target, mask, data),
                files=tuple(file for given in (source, target, mask) if given for file in _files(given)),
                patient=row.get("patient") or None,
            )
        )
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


def _files(path: Path) -> list[Path]:
    """The file itself, or all files of a DICOM folder."""
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
