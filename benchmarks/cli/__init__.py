"""The commands of ``python -m benchmarks``: a command line in, tables and files of what was measured out."""

from __future__ import annotations

from DiffMaCore.cli.commands import Command

BENCHMARKS: dict[str, Command] = {}
"""By name, in the order of their modules' import."""
