"""Training without an installed ``diffma``: the training commands, and nothing else.

python Training/train.py prepare --config Training/demo.yaml       as `diffma prepare`
python Training/train.py denoiser --config Training/demo.yaml      as `diffma train denoiser`
"""

from __future__ import annotations

import sys

from DiffMaCore.cli.main import main

OTHERS = ("prepare", "bundle", "evaluate")


def run(words: list[str]) -> int:
    """What the words say; returns the exit status."""
    return main(words if words[:1] and words[0] in OTHERS else ["train", *words])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
