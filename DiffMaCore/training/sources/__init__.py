"""Paired volumes on disk, whatever their layout: one file a kind of data set."""

from __future__ import annotations

from DiffMaCore.training.sources.case import CaseSlices, RawCase, RawPair
from DiffMaCore.training.sources.finding import find_cases

__all__ = ["CaseSlices", "RawCase", "RawPair", "find_cases"]
