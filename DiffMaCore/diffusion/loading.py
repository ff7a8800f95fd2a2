"""A bundle's folder in, its components out: objects of allowed classes, of which the bundle chooses by name only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch

from DiffMaCore.baselines.unet import UNetDenoiser
from DiffMaCore.bundles.checking import SCHEDULER, WEIGHTS_FILE, check_bundle, weight_shapes
from DiffMaCore.bundles.config import AGAIN, read_index
from DiffMaCore.errors import ModelError
from DiffMaCore.models.components import load_network
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.guided_decoder import GuidedDecoder
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.models.patch_autoencoder import PatchAutoencoder

_OURS = {
    cls.__name__: cls for cls in (DiffMa, UNetDenoiser, VisionEmbedder, PatchAutoencoder, ImageEncoder, GuidedDecoder)
}


def class_of(name: str) -> Any:
    """The class of a component by its name, one of those in :data:`~DiffMaCore.bundles.component_configs.CLASSES`."""
    return _OURS.get(name) or getattr(diffusers, name)


def load_components(folder: Path, dtype: torch.dtype = torch.float32, only: str | None = None) -> dict[str, Any]:
    """The components of a bundle by name, in eval mode on the CPU, their weights in ``dtype``.

    ``only``: the name of the one that is wanted; None: all.

    Raises:
        ModelError: the bundle is refused (:func:`~DiffMaCore.bundles.checking.check_bundle`), or weights do not fit.
        OutOfMemory: the memory is not enough for it.
    """
    check_bundle(folder)
    loaded: dict[str, Any] = {}
    for name, chosen in read_index(folder)[1].items():
        if only not in (None, name):
            continue
        if name == SCHEDULER:
            loaded[name] = class_of(chosen).from_pretrained(str(folder / name), local_files_only=True)
        else:
            _check_shapes(class_of(chosen), folder / name)
            options = {"use_safetensors": True, "torch_dtype": dtype}
            loaded[name] = load_network(class_of(chosen), folder / name, name, **options)
    return loaded


def _check_shapes(cls: Any, folder: Path) -> None:
    """Raise ModelError where the weights are not those of the network that ``config.json`` describes.

    The network is made without memory, so that a description of a giant costs nothing.
    """
    with torch.device("meta"):
        network = cls.from_config(cls.load_config(str(folder), local_files_only=True))
    path = folder / WEIGHTS_FILE
    has = weight_shapes(path)
    for name, tensor in network.state_dict().items():
        if has.get(name) != tuple(tensor.shape):
            found = has.get(name, "absent")
            raise ModelError(
                f"{path}: {name} must be of shape {tuple(tensor.shape)} for its config.json, not {found}{AGAIN}"
            )
