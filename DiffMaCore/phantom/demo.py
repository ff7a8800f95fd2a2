"""A head to try things on, from the heads that come with the package."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from DiffMaCore.phantom.heads import Head, bundled_heads, load_head
from DiffMaCore.phantom.render import Phantom, RenderOptions, render


@lru_cache(maxsize=2)
def _head(name: str) -> Head:
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
    """Render one of the bundled heads, which the seed picks unless ``head`` names it.

    The same seed gives the same head. ``lesions`` allows findings in the brain, ``artefacts`` what scanners do.
    Raises InputError for an empty grid or an unknown head.
    """
    names = bundled_heads()
    options = replace(RenderOptions(), artefacts=artefacts, lesions=RenderOptions().lesions if lesions else 0.0)
    return render(_head(head or names[seed % len(names)]), seed, spacing, size, options=options)
