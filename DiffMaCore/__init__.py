"""DiffMa: latent diffusion with spiral-scan Mamba that turns a CT volume into a synthetic MRI.

Research only: synthetic images are not for diagnosis or treatment planning.

The names below are imported on first use, so that importing the package (and ``diffma --help``)
does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from DiffMaCore.baselines.systems import DiffMa as DiffMa
    from DiffMaCore.diffusion import schedulers as schedulers
    from DiffMaCore.errors import DiffMaError as DiffMaError
    from DiffMaCore.imaging import phantom as phantom
    from DiffMaCore.inference.pipeline import DiffMaPipeline as DiffMaPipeline
    from DiffMaCore.models import orders as orders
    from DiffMaCore.models import released as released
    from DiffMaCore.models.embedder import VisionEmbedder as VisionEmbedder
    from DiffMaCore.models.image_encoder import ImageEncoder as ImageEncoder
    from DiffMaCore.ops import scan as scan
    from DiffMaCore.ops.scan import selective_scan as selective_scan
    from DiffMaCore.presets import preset as preset

__version__ = "0.1.0"

_EXPORTS = {
    "DiffMa": "DiffMaCore.baselines.systems",
    "VisionEmbedder": "DiffMaCore.models.embedder",
    "ImageEncoder": "DiffMaCore.models.image_encoder",
    "preset": "DiffMaCore.presets",
    "selective_scan": "DiffMaCore.ops.scan",
    "DiffMaPipeline": "DiffMaCore.inference.pipeline",
    "DiffMaError": "DiffMaCore.errors",
}
_SUBMODULES = {
    "orders": "DiffMaCore.models.orders",
    "phantom": "DiffMaCore.imaging.phantom",
    "released": "DiffMaCore.models.released",
    "scan": "DiffMaCore.ops.scan",
    "schedulers": "DiffMaCore.diffusion.schedulers",
}

__all__ = ["__version__", *_EXPORTS, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(_SUBMODULES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
