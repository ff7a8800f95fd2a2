"""``python -m DiffMaCore``: the ``diffma`` command line where no script is installed."""

from __future__ import annotations

from DiffMaCore.cli.main import program

program()
