"""``python -m DiffMaCore``: the ``diffma`` command line where no script is installed."""

from __future__ import annotations

import sys

from DiffMaCore.cli.main import main

sys.exit(main())
