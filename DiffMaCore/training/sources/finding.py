"""Which kind of data set a path is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.sources.case import RawCase


def find_cases(paths: Sequence[Path], data: DataConfig, seed: int) -> list[RawCase]:
    """All cases behind ``paths``, sorted by id; phantoms where ``data.phantoms`` asks for them."""
    raise NotImplementedError
