"""DiffMa: latent diffusion with spiral-scan Mamba that turns a CT volume into a synthetic MRI.

Research only: synthetic images are not for diagnosis or treatment planning.

The names below are imported on first use, so that importing the package (and ``diffma --help``)
does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from DiffMaCore.baselines.registry import DiffMa as DiffMa
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

_PLACES = {
    "DiffMa": "baselines.registry",
    "VisionEmbedder": "models.embedder",
    "ImageEncoder": "models.image_encoder",
    "preset": "presets",
    "selective_scan": "ops.scan",
    "DiffMaPipeline": "inference.pipeline",
    "DiffMaError": "errors",
    "orders": "models.orders",
    "phantom": "imaging.phantom",
    "released": "models.released",
    "scan": "ops.scan",
    "schedulers": "diffusion.schedulers",
}
"""The module of every public name; of the last word of its own path, the module itself."""

__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"DiffMaCore.{_PLACES[name]}")
    return module if _PLACES[name].endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
