"""The image encoder: an open_clip visual tower, BiomedCLIP's in the paper (Eq. 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from safetensors.torch import load_file
from torch import Tensor

from DiffMaCore.bundles.checking import component_config
from DiffMaCore.bundles.config import AGAIN, read_json
from DiffMaCore.errors import ModelError

_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
CONFIG_FILE = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class ImageEncoder(ModelMixin, ConfigMixin):
    """Pixels (B, 3, H, W) to a pooled embedding (B, embed_dim).

    Args:
        embed_dim: width of the embedding, the denoiser's width D.
        vision_cfg: open_clip's description of the visual tower; ``image_size`` in it is the input's side.
    """

    @register_to_config
    def __init__(self, embed_dim: int, vision_cfg: dict[str, Any]) -> None:
        super().__init__()
        # open_clip builds towers in pairs; the text tower here is tiny and dropped at once
        self.visual = open_clip.CustomTextCLIP(embed_dim, dict(vision_cfg), dict(_NO_TEXT)).visual

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        size = self.config["vision_cfg"].get("image_size", 224)
        return size if isinstance(size, int) else size[0]

    def forward(self, pixels: Tensor) -> Tensor:
        return self.visual(pixels)

    @classmethod
    def from_open_clip(cls, folder: str | Path) -> ImageEncoder:
        """The visual tower of an open_clip model in a local folder, such as BiomedCLIP's.

        Raises:
            ModelError: the folder lacks ``open_clip_config.json`` or weights, or they do not fit.
        """
        folder = Path(folder)
        path = folder / CONFIG_FILE
        content = read_json(path, f"{folder} holds no image encoder").get("model_cfg")
        tower = content.get("vision_cfg") if isinstance(content, dict) else None
        if not isinstance(content, dict) or not isinstance(tower, dict):
            raise ModelError(f"{path}: model_cfg must hold vision_cfg{AGAIN}.")
        tower = {key: value for key, value in tower.items() if key != "timm_model_pretrained"}
        values = {"embed_dim": content.get("embed_dim"), "vision_cfg": tower}
        component_config("image_encoder", cls.__name__, values, str(path))
        weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
        if weights is None:
            raise ModelError(f"{folder} is no image encoder: it lacks {' and '.join(WEIGHTS)}.")
        encoder = cls(**values)
        state = _read_weights(weights)
        visual = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
        try:
            encoder.visual.load_state_dict(visual)
        except RuntimeError as mismatch:
            first = str(mismatch).splitlines()[1].strip()
            raise ModelError(f"the visual tower in {weights} does not fit its open_clip_config.json: {first}") from None
        return encoder.eval()


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:
        raise ModelError(f"{path} cannot be read as weights ({type(problem).__name__}); fetch the file again") from None
