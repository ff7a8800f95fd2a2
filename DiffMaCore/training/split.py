"""Who trains, who validates, who tests: by patient, never by slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from DiffMaCore.training.experiment import SplitConfig
from DiffMaCore.training.sources.case import RawCase

Split = dict[str, list[str]]


def make_split(cases: Sequence[RawCase], config: SplitConfig, seed: int) -> Split:
    """Ids of "train", "validation" and "test", each sorted."""
    raise NotImplementedError


def write_split(path: Path, split: Split, seed: int) -> None:
    """Write ``split.json`` (atomic)."""
    raise NotImplementedError


def read_split(path: Path) -> Split:
    """The lists of a ``split.json``; InputError where it is none."""
    raise NotImplementedError


def check_split(split: Split, cases: Sequence[RawCase], contents: dict[str, str] | None = None) -> None:
    """Raise InputError naming the patient that a split leaks, or the id it does not know.

    ``contents``: content hash of every case's files by id, so that one patient under two ids is found.
    """
    raise NotImplementedError
