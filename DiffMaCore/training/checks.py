"""Is a case fit to train on?"""

from __future__ import annotations

from DiffMaCore.training.experiment import DataConfig
from DiffMaCore.training.sources.case import RawPair


def check_case(pair: RawPair, data: DataConfig) -> list[str]:
    """Reasons to leave a case out; empty for a good one."""
    raise NotImplementedError
