"""Label maps of real heads in, rendered pairs out, in place of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.phantom import (
    Head,
    Phantom,
    RenderOptions,
    bundled_heads,
    head_files,
    heads_in,
    load_head,
    render,
)
from DiffMaCore.training.experiment import DataConfig, HeadsConfig
from DiffMaCore.training.sources.case import CaseSlices, RawCase

MR_RANGE = (0.0, 1000.0)
"""Rendered intensities that become -1 and 1; their scale is fixed, so that nothing is normalised by percentiles."""

_TARGETS = ("t1", "t2", "flair")
_FIXED = 1_000_000  # seeds of the renderings that stay the same; fresh ones are below


def training_heads(config: HeadsConfig) -> dict[str, Path]:
    """Label maps that train, by name; InputError where the folder holds none, or one that validates."""
    found = heads_in(Path(config.folder))
    both = set(found) & set(bundled_heads())
    if both:
        raise InputError(f"data.heads.folder: {sorted(both)[0]} validates and must not be trained on; take it out")
    return found


def heads_cases(data: DataConfig, seed: int) -> list[RawCase]:
    """Fixed renderings: of every head that validates ``draws``, each with every contrast; of those that train one."""
    assert data.heads is not None
    for name in data.targets:
        if data.source != "ct" or name not in _TARGETS:
            raise InputError(f"heads are rendered as ct and {', '.join(_TARGETS)}, not as {name}; see data.contrasts")
    contrasts = range(len(data.targets))
    wanted: list[tuple[str, tuple[Path, ...], int, int]] = []
    wanted += [(name, (), draw, c) for name in bundled_heads() for draw in range(data.heads.draws) for c in contrasts]
    train = sorted(training_heads(data.heads).items())
    wanted += [(name, head_files(path), 0, number % len(contrasts)) for number, (name, path) in enumerate(train)]
    cases = []
    for name, files, draw, contrast in wanted:
        head = str(files[0]) if files else name
        load = partial(_load, head, _seed(name, seed, draw), data, contrast)
        cases.append(RawCase(f"{name}_{draw}_{data.targets[contrast]}", "", load, files, name, contrast))
    return cases


def heads_split(cases: Sequence[RawCase]) -> dict[str, list[str]]:
    """The package's own heads validate, the others train."""
    ours = set(bundled_heads())
    sides = {"train": False, "validation": True}
    split = {side: [case.id for case in cases if (case.patient in ours) == stored] for side, stored in sides.items()}
    return {**split, "test": []}


def slices_of(phantom: Phantom, data: DataConfig, contrast: int) -> CaseSlices:
    """The slices of a rendering that show enough of the head."""
    keep = np.flatnonzero(phantom.body.mean(axis=(1, 2)) >= max(data.least_body, 1e-9))
    low, high = MR_RANGE
    mr = phantom.mr[data.targets[contrast]][keep]
    return CaseSlices(
        source=phantom.ct[keep],
        target=np.clip((mr - low) * np.float32(2 / (high - low)) - 1, -1, 1),
        body=phantom.body[keep],
        index=keep.astype(np.int64),
        spacing=phantom.spacing[2],
        notes=[],
    )


def render_head(head: Head, seed: int, data: DataConfig, options: RenderOptions) -> Phantom:
    """One rendering on the model's own pixels."""
    assert data.heads is not None
    spacing = (data.pixel_spacing, data.pixel_spacing, data.heads.slice_spacing)
    size = (data.image_size, data.image_size, None)
    return render(head, seed, spacing, size, contrasts=data.targets, options=options)


@lru_cache(maxsize=1)
def _head(name: str) -> Head:
    return load_head(name)


@lru_cache(maxsize=1)
def _rendered(head: str, seed: int, data: DataConfig) -> Phantom:
    return render_head(_head(head), seed, data, RenderOptions())


def _load(head: str, seed: int, data: DataConfig, contrast: int) -> CaseSlices:
    return slices_of(_rendered(head, seed, data), data, contrast)


def _seed(name: str, seed: int, draw: int) -> int:
    digest = hashlib.sha256(f"{name} {seed} {draw}".encode()).digest()
    return _FIXED + int.from_bytes(digest[:4], "little")
