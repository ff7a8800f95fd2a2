"""Heads of real anatomy for all tests: each label map is cleaned once a run, whatever process asks for it first."""

from __future__ import annotations

import os
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from filelock import FileLock

from DiffMaCore.imaging.phantom import Head, Phantom, bundled_heads, head_phantom, heads
from Testing.conftest import HEADS

HEAD = bundled_heads()[0]
TRAINING_HEAD = Path(__file__).resolve().parent.parent / "Training" / "heads" / "head_13.nii.gz"  # the smallest file

_clean = heads._make


def _clean_once(path: Path) -> Head:
    """What ``_clean`` makes of this file, which takes seconds; no other process of this run has to make it again."""
    kept = Path(os.environ[HEADS], f"{heads.digest(path)}-{path.name}.npz")
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            head = _clean(path)
            np.savez(kept, **{field.name: getattr(head, field.name) for field in fields(Head)})
            return head
    with np.load(kept) as data:
        values = {field.name: data[field.name][()] for field in fields(Head)}
    return Head(**{**values, "name": str(values["name"])})


heads._make = _clean_once


@lru_cache(maxsize=32)
def rendered(
    seed: int,
    spacing: tuple[float, float, float] = (7.0, 7.0, 14.0),
    size: tuple[int, int, int | None] = (32, 32, 15),
) -> Phantom:
    """The head in another shape for every seed, scanned without artefacts; its arrays are not to be changed."""
    return head_phantom(seed, spacing, size, artefacts=False, head=HEAD)


def coarse_phantom(seed: int, head: str | None = None) -> Phantom:
    """What commands render, with a twentieth of its voxels."""
    return head_phantom(seed, (4.0, 4.0, 8.0), (56, 56, None), head=head)
