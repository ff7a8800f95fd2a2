"""Model bundles: a folder with every component and every setting that decides the result.

Nothing in :mod:`~DiffMaCore.bundles.config`, ``manifest``, ``store`` and ``hub`` imports torch.
"""

from __future__ import annotations

from DiffMaCore.bundles.config import RESEARCH_ONLY, BundleConfig, ModelCard

__all__ = ["RESEARCH_ONLY", "BundleConfig", "ModelCard"]
