"""One head of real anatomy for all tests, rendered on coarse grids: it is loaded once a process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from DiffMaCore.imaging.phantom import Phantom, bundled_heads, head_phantom

HEAD = bundled_heads()[0]
TRAINING_HEAD = Path(__file__).resolve().parent.parent / "Training" / "heads" / "head_13.nii.gz"  # the smallest file


@lru_cache(maxsize=32)
def rendered(
    seed: int,
    spacing: tuple[float, float, float] = (7.0, 7.0, 14.0),
    size: tuple[int, int, int | None] = (32, 32, 15),
) -> Phantom:
    """The head in another shape for every seed, scanned without artefacts; its arrays are not to be changed."""
    return head_phantom(seed, spacing, size, artefacts=False, head=HEAD)
