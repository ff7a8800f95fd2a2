"""Heads rendered from label maps of real anatomy: paired CT (HU) and T1, T2, FLAIR with exact correspondence.

``load_head`` reads and cleans a label map, ``render`` deforms it, fills it with tissue and scans it. Two heads come
with the package (``bundled_heads``).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from DiffMaCore.imaging.phantom.heads import Head, bundled_heads, has_t1, head_files, heads_in, load_head
from DiffMaCore.imaging.phantom.render import Phantom, RenderOptions, render

__all__ = [
    "Head",
    "Phantom",
    "RenderOptions",
    "bundled_head",
    "bundled_heads",
    "has_t1",
    "head_files",
    "head_phantom",
    "heads_in",
    "load_head",
    "render",
]


@lru_cache(maxsize=2)
def bundled_head(name: str) -> Head:
    """A head by name or path, loaded once a process."""
    return load_head(name)


def head_phantom(
    seed: int,
    spacing: tuple[float, float, float] = (1.4, 1.4, 3.0),
    size: tuple[int, int, int | None] = (160, 160, None),
    *,
    lesions: bool = True,
    artefacts: bool = True,
    head: str | None = None,
) -> Phantom:
    """Render one of the bundled heads, which the seed picks, or ``head``: its name or a label map's path.

    The same seed gives the same head. ``lesions`` allows findings in the brain, ``artefacts`` what scanners do.
    Raises InputError for an empty grid or an unknown head.
    """
    names = bundled_heads()
    usual = RenderOptions(tilt=6.0, scale=0.1, elastic=2.5, shift=4.0)
    options = replace(usual, artefacts=artefacts, lesions=usual.lesions if lesions else 0.0)
    return render(bundled_head(head or names[seed % len(names)]), seed, spacing, size, options=options)
