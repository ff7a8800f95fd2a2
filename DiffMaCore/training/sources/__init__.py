"""Paired volumes on disk, whatever their layout: one file a kind of data set."""

from __future__ import annotations

from DiffMaCore.training.sources.case import RawCase, RawPair
from DiffMaCore.training.sources.finding import find_cases

__all__ = ["RawCase", "RawPair", "find_cases"]
