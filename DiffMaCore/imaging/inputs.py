"""What a user names in (files, folders, a CSV), a list of volumes to convert out."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.files import is_dicom, is_volume_file
from DiffMaCore.imaging.writing import file_key, split_extension

_COLUMNS = ("input", "output", "series", "mask")


@dataclass(frozen=True)
class InputItem:
    """One volume to convert.

    Attributes:
        path: file or DICOM folder, for ``read_volume``.
        output_stem: file name without extension for the result, unique in the list.
        series: of a DICOM folder, or None.
        mask: label volume, or None.
        output: as the CSV names the result (relative to the output folder), or None.
    """

    path: Path
    output_stem: str
    series: str | None = None
    mask: Path | None = None
    output: Path | None = None


def find_inputs(paths: Iterable[str | Path]) -> list[InputItem]:
    """The volumes behind ``paths``: volume files, DICOM files and folders, folders of these, CSV tables.

    A folder of volumes gives each volume file and each sub-folder of DICOM files. DICOM files of one study
    are one item however deep they lie. A CSV has a column ``input`` and may have ``output``, ``series`` and
    ``mask``; relative inputs and masks start at the CSV's folder.

    Raises:
        InputError: a path that does not exist, a folder without volumes, or a CSV without ``input``.
    """
    items: list[InputItem] = []
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise InputError(f"{path} does not exist; check the spelling of the path")
        if path.suffix.lower() == ".csv" and path.is_file():
            items += _from_csv(path)
        elif path.is_dir():
            found = _from_folder(path)
            if not found:
                raise InputError(f"{path} holds no volume; name a folder with NIfTI, NRRD, MHA or DICOM")
            items += [_item(p) for p in found]
        else:
            items.append(_item(path))
    return _with_unique_stems(items)


def _item(path: Path) -> InputItem:
    absolute = path.absolute()
    return InputItem(path, absolute.name if path.is_dir() else split_extension(absolute)[0])


def _from_folder(folder: Path) -> list[Path]:
    """Volume files and DICOM folders in ``folder``, by name."""
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    volumes = [p for p in entries if p.is_file() and is_volume_file(p)]
    if not volumes:
        studies = _studies(folder)
        if len(studies) == 1 or any(is_dicom(p) for p in entries):
            return [folder]
    deeper = [found for p in entries if p.is_dir() for found in _from_folder(p)]
    return sorted(volumes + deeper)


def _studies(folder: Path) -> set[str]:
    """Study UIDs of the first DICOM file in every folder at or below ``folder``."""
    from DiffMaCore.imaging.dicom_headers import read_header

    studies = set()
    for place in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        if any(is_volume_file(p) for p in place.iterdir()):
            return set()
        first = next((p for p in sorted(place.iterdir()) if is_dicom(p)), None)
        if first is not None:
            with suppress(InputError):  # reported where it is read
                studies.add(str(read_header(first, ["StudyInstanceUID"]).get("StudyInstanceUID", "")))
    return studies


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV (comma or semicolon, UTF-8) by column; names in lower case, everything stripped.

    Raises InputError where it is no readable text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            text = stream.read()
        header = text.partition("\n")[0]
        delimiter = ";" if ";" in header and "," not in header else ","
        rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no readable CSV; save it as comma-separated UTF-8 text") from error
    return [{n.strip().lower(): (row[n] or "").strip() for n in row if isinstance(n, str)} for row in rows]


def _from_csv(path: Path) -> list[InputItem]:
    items = []
    for cells in read_table(path):
        if "input" not in cells:
            raise InputError(f"{path} has no column input; give a header line with {', '.join(_COLUMNS)}")
        if not cells["input"]:
            continue
        mask = path.parent / cells["mask"] if cells.get("mask") else None
        output = Path(cells["output"]) if cells.get("output") else None
        item = _item(path.parent / cells["input"])
        items.append(replace(item, series=cells.get("series") or None, mask=mask, output=output))
    if not items:
        raise InputError(f"{path} names no volume; fill its column input")
    return items


def _with_unique_stems(items: list[InputItem]) -> list[InputItem]:
    """Stems that occur twice get their folder's name in front, and a number where that does not help."""
    stems = Counter(file_key(item.output_stem) for item in items)
    names = [
        f"{item.path.absolute().parent.name}_{item.output_stem}"
        if stems[file_key(item.output_stem)] > 1
        else item.output_stem
        for item in items
    ]
    taken: set[str] = set()
    unique = []
    for item, name in zip(items, names, strict=True):
        candidate, number = name, 2
        while file_key(candidate) in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken.add(file_key(candidate))
        unique.append(replace(item, output_stem=candidate))
    return unique
