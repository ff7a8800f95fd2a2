"""Heads rendered from label maps of real anatomy: paired CT (HU) and T1, T2, FLAIR with exact correspondence.

``load_head`` reads and cleans a label map, ``render`` deforms it, fills it with tissue and scans it. Two heads come
with the package (``bundled_heads``).
"""

from __future__ import annotations

from DiffMaCore.imaging.phantom.demo import head_phantom
from DiffMaCore.imaging.phantom.heads import Head, bundled_heads, heads_in, load_head
from DiffMaCore.imaging.phantom.render import Phantom, RenderOptions, render

__all__ = ["Head", "Phantom", "RenderOptions", "bundled_heads", "head_phantom", "heads_in", "load_head", "render"]
