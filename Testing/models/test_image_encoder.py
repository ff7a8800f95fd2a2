"""The image encoder."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from DiffMaCore import ImageEncoder
from DiffMaCore.errors import ModelError

VISION = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
TEXT = {"context_length": 4, "vocab_size": 8, "width": 16, "heads": 1, "layers": 1}


def _open_clip_folder(folder: Path) -> open_clip.CustomTextCLIP:
    """A small model as open_clip saves it, with both towers."""
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(24, VISION, TEXT).eval()
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model


def test_an_open_clip_folder_gives_its_visual_tower(tmp_path: Path) -> None:
    model = _open_clip_folder(tmp_path)
    encoder = ImageEncoder.from_open_clip(tmp_path)
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encoder(pixels), model.encode_image(pixels))
    assert encoder.image_size == 32


def test_weights_in_a_pickle_are_read_without_running_it(tmp_path: Path) -> None:
    model = _open_clip_folder(tmp_path)
    (tmp_path / "open_clip_model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    ImageEncoder.from_open_clip(tmp_path)
    torch.save({"visual.x": Path("not a tensor")}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match=r"open_clip_pytorch_model\.bin"):
        ImageEncoder.from_open_clip(tmp_path)


def test_biomedclips_visual_tower_can_be_built_and_gives_512_numbers() -> None:
    vision = {"timm_model_name": "vit_base_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    with torch.device("meta"):
        encoder = ImageEncoder(512, vision)
    shapes = {name: tuple(p.shape) for name, p in encoder.visual.named_parameters()}
    assert shapes["head.proj.weight"] == (512, 768)
    assert shapes["trunk.patch_embed.proj.weight"] == (768, 3, 16, 16)
    assert encoder.image_size == 224


def test_saved_and_loaded_encoders_are_equal(tmp_path: Path) -> None:
    encoder = ImageEncoder(24, VISION).eval()
    encoder.save_pretrained(tmp_path)
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(encoder(pixels), ImageEncoder.from_pretrained(tmp_path).eval()(pixels))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"open_clip_config\.json"):
        ImageEncoder.from_open_clip(tmp_path)
