"""Procedural head phantoms: paired CT (HU) and T1-weighted MR volumes, free of any patient's data.

``head_phantom(seed)`` paints a random head (skull, brain, face, neck) with signed distances and smooth
noise, then scans it. Nothing is copied from an atlas or a patient; the anatomy is schematic.
"""

from __future__ import annotations

from DiffMaCore.phantom.head import Phantom, head_phantom

__all__ = ["Phantom", "head_phantom"]
