"""Patients in, who of them trains, validates and tests out: by patient, never by slice."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from DiffMaCore.configuring import nearest
from DiffMaCore.errors import InputError
from DiffMaCore.files import write_json
from DiffMaCore.training.experiment import SplitConfig
from DiffMaCore.training.sources.case import RawCase

PARTS = ("train", "validation", "test")

Split = dict[str, list[str]]
"""Sorted ids of "train", "validation" and "test"."""


def make_split(cases: Sequence[RawCase], config: SplitConfig, seed: int) -> Split:
    """Patients drawn for test and validation, each centre giving its share; the rest trains.

    Cases that ``config`` names go where it says and replace the draw for that part. All cases of a patient go
    together. The same cases and seed give the same split, in whatever order they come. Raises InputError: a named case
    that is not there (with the nearest one), or nobody left to train on.
    """
    patients: dict[str, list[RawCase]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.id):
        patients[case.patient or case.id].append(case)
    parts: dict[str, set[str]] = {
        "test": _named(config.test_cases, "test_cases", cases),
        "validation": _named(config.validation_cases, "validation_cases", cases),
    }
    both = sorted(parts["test"] & parts["validation"])
    if both:
        raise InputError(f"the patient {both[0]} is named for validation and for test; a patient can be in one only")
    rng = np.random.default_rng([seed, len(PARTS)])
    shares = {"test": config.test, "validation": config.validation}
    for part in [part for part, named in parts.items() if not named]:
        taken = parts["test"] | parts["validation"]
        free = {patient: group[0].centre for patient, group in patients.items() if patient not in taken}
        parts[part] = _drawn(free, shares[part], len(patients), rng)
    parts["train"] = set(patients) - parts["test"] - parts["validation"]
    if not parts["train"]:
        raise InputError(f"nobody is left to train on: {len(patients)} patients are all for validation or test")
    return {part: sorted(case.id for patient in parts[part] for case in patients[patient]) for part in PARTS}


def write_split(path: Path, split: Split, seed: int) -> None:
    """Write ``split.json``, whole or not at all."""
    write_json(path, {"seed": seed, **split})


def read_split(path: Path) -> Split:
    """The lists of a ``split.json``; InputError where it is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"there is no split {path}; give a file like the split.json that `diffma prepare` writes"
        ) from None
    except ValueError as problem:
        raise InputError(f"{path} is not JSON ({problem}); write it like the split.json of `diffma prepare`") from None
    for part in PARTS:
        ids = values.get(part) if isinstance(values, dict) else None
        if not isinstance(ids, list) or not all(isinstance(case_id, str) for case_id in ids):
            raise InputError(f"{path} lacks the list of case ids {part!r}; write train, validation and test")
    return {part: list(values[part]) for part in PARTS}


def check_split(split: Split, cases: Sequence[RawCase], contents: Mapping[str, str] | None = None) -> None:
    """Make sure that no patient is in two parts; cases that the split does not name are nobody's.

    ``contents`` is the hash of every case's files, by id: one patient under two ids is found by it. Raises InputError:
    an id that does not exist (with the nearest one), an id twice, or a patient in two parts.
    """
    known = {case.id: case for case in cases}
    where: dict[str, str] = {}
    for part in PARTS:
        for case_id in split[part]:
            if case_id not in known:
                raise InputError(f"the split names {case_id}, which is not in the data set{_nearest(case_id, known)}")
            if case_id in where:
                raise InputError(_leak(case_id, where[case_id], part))
            where[case_id] = part
    if not split["train"]:
        raise InputError("the split has nobody to train on; name cases under train")
    places: dict[str, str] = {}
    for case_id, part in where.items():
        keys = [f"patient {known[case_id].patient or case_id}"]
        keys += [f"content {contents[case_id]}"] if contents and case_id in contents else []
        for key in keys:
            other = places.setdefault(key, case_id)
            if where[other] != part:
                raise InputError(_leak(f"{other} and {case_id} (the same patient)", where[other], part))


def _leak(what: str, first: str, second: str) -> str:
    place = f"twice in {first}" if first == second else f"in {first} and in {second}"
    return f"the split leaks a patient: {what} {'are' if ' and ' in what else 'is'} {place}; keep one of the two"


def _named(ids: Sequence[str], key: str, cases: Sequence[RawCase]) -> set[str]:
    known = {case.id: case.patient or case.id for case in cases}
    known |= {patient: patient for patient in known.values()}
    for case_id in ids:
        if case_id not in known:
            raise InputError(f"split: {key} names {case_id}, which is not in the data set{_nearest(case_id, known)}")
    return {known[case_id] for case_id in ids}


def _drawn(centres: Mapping[str, str], share: float, total: int, rng: np.random.Generator) -> set[str]:
    """``share`` of all ``total`` patients (at least one, if any is wanted) out of ``centres`` {patient: centre}.

    Every centre gives in proportion to its patients; what rounding leaves goes to the largest remainders.
    """
    if not share or not centres:
        return set()
    groups: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(centres):
        groups[centres[patient]].append(patient)
    wanted = min(max(1, round(share * total)), len(centres))
    quotas = {centre: wanted * len(group) / len(centres) for centre, group in groups.items()}
    counts = {centre: int(quota) for centre, quota in quotas.items()}
    order = sorted(groups, key=lambda centre: (counts[centre] - quotas[centre], centre))
    for centre in order[: wanted - sum(counts.values())]:
        counts[centre] += 1
    return {str(p) for centre in sorted(groups) for p in rng.permutation(groups[centre])[: counts[centre]]}


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = nearest(name, known)
    return f"; did you mean {near}?" if near else f"; known are {', '.join(sorted(known)[:8])}"
