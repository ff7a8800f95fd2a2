"""SynthRAD as it unpacks, and every folder of that kind: one folder a case, one file a modality.

2023: ``Task1/{brain,pelvis}/1BA001/{ct,mr,mask}.nii.gz``. 2025: ``Task1/{AB,HN,TH}/1ABA005/{ct,mr,mask}.mha``. Any
folder above the cases, or a case itself, may be given. A patient of another part of the body than the experiment's
is passed over, so ``Task1`` serves a brain and a pelvis experiment.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.reading import is_volume_file
from DiffMaCore.imaging.writing import split_extension
from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.sources.case import RawCase, read_pair
from DiffMaCore.training.sources.naming import centre_of, of_anatomy

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
    wanted = {place: files for place, files in folders.items() if of_anatomy(place.name, data.anatomy)}
    if not wanted:
        first = next(iter(folders)).name
        raise InputError(
            f"{given} holds no case of the anatomy {data.anatomy!r} (but {first} and {len(folders) - 1} more of"
            " another); give the folder of that part of the body, or correct data: anatomy"
        )
    _require_modalities(wanted, given, data)
    return [_case(place, files, data) for place, files in wanted.items()]


def _case(place: Path, files: dict[str, Path], data: DataConfig) -> RawCase:
    source, target, mask = files[data.source], files[data.target], files.get("mask")
    name = place.resolve().name
    return RawCase(
        id=name,
        centre=centre_of(name),
        load=partial(read_pair, source, target, mask, data),
        files=tuple(path for path in (source, target, mask) if path),
    )


def _require_modalities(folders: dict[Path, dict[str, Path]], given: Path, data: DataConfig) -> None:
    lacking = [place for place, files in folders.items() if not {data.source, data.target} <= files.keys()]
    if not lacking:
        return
    first = lacking[0]
    held = folders[first]
    missing = " and ".join(m for m in (data.source, data.target) if m not in held)
    others = sorted(_MODALITIES & held.keys() - {data.source, data.target})
    remedy = f"add it or move the folder out of {given}"
    if others == ["cbct"]:
        remedy = "these are cases of Task 2 (cone-beam CT to CT); give Task1"
    elif others:
        remedy = f"set source or target to {' or '.join(others)} in the configuration, or give the right data set"
    more = f" ({len(lacking)} of {len(folders)} cases lack something)" if len(lacking) > 1 else ""
    raise InputError(
        f"the case {first.name} lacks {missing}{more}: {data.source} and {data.target} are needed, and it holds"
        f" {', '.join(path.name for path in held.values())}; {remedy}"
    )
