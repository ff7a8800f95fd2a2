"""Files as the authors release them, small and random, and the parts their files leave out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.models.layers import sincos_positions


def denoiser_state(width: int = 32, grid: int = 4, patch: int = 2, depth: int = 2) -> dict[str, Tensor]:
    """A state dict with the released denoiser's keys and shapes."""
    torch.manual_seed(0)
    inner, rank = 2 * width, -(-width // 16)
    shapes = {
        "x_embedder.proj.weight": (width, 4, patch, patch),
        "x_embedder.proj.bias": (width,),
        "t_embedder.mlp.0.weight": (width, 256),
        "t_embedder.mlp.0.bias": (width,),
        "t_embedder.mlp.2.weight": (width, width),
        "t_embedder.mlp.2.bias": (width,),
        "final_layer.linear.weight": (patch * patch * 8, width),
        "final_layer.linear.bias": (patch * patch * 8,),
        "final_layer.adaLN_modulation.1.weight": (2 * width, 2 * width),
        "final_layer.adaLN_modulation.1.bias": (2 * width,),
    }
    for block in (f"blocks.{i}." for i in range(depth)):
        for mamba in ("mamba1.", "mamba2."):
            shapes |= {
                f"{block}{mamba}A_log": (inner, 16),
                f"{block}{mamba}D": (inner,),
                f"{block}{mamba}in_proj.weight": (2 * inner, width),
                f"{block}{mamba}conv1d.weight": (inner, 1, 4),
                f"{block}{mamba}conv1d.bias": (inner,),
                f"{block}{mamba}x_proj.weight": (rank + 32, inner),
                f"{block}{mamba}dt_proj.weight": (inner, rank),
                f"{block}{mamba}dt_proj.bias": (inner,),
                f"{block}{mamba}out_proj.weight": (width, inner),
            }
        shapes |= {
            f"{block}norm1.weight": (width,),
            f"{block}norm1.bias": (width,),
            f"{block}adaLN_modulation.1.weight": (3 * width, 2 * width),
            f"{block}adaLN_modulation.1.bias": (3 * width,),
            f"{block}attention_network.0.weight": (2 * width,),
            f"{block}attention_network.0.bias": (2 * width,),
            f"{block}attention_network.1.weight": (width, 2 * width),
            f"{block}attention_network.1.bias": (width,),
            f"{block}attention_network.3.weight": (1, width),
            f"{block}attention_network.3.bias": (1,),
        }
    state = {key: 0.1 * torch.randn(shape) for key, shape in shapes.items()}
    positions = sincos_positions(width, grid)
    return {"pos_embed": positions.reshape(1, grid * grid, width), **state}


def embedder_state(width: int = 32, tokens: int = 16, patch: int = 2) -> dict[str, Tensor]:
    """A state dict with the released Vision Embedder's keys and shapes."""
    torch.manual_seed(1)
    hidden = tokens // 4
    shapes = {
        "vision_embedding.mask_token": (1, 1, width),
        "vision_embedding.proj.weight": (width, 4, patch, patch),
        "vision_embedding.proj.bias": (width,),
        "fc.0.weight": (hidden, tokens),
        "fc.0.bias": (hidden,),
        "fc.2.weight": (tokens, hidden),
        "fc.2.bias": (tokens,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    return {key: 0.1 * torch.randn(shape) for key, shape in shapes.items()}


def save_checkpoint(path: Path, ema: dict[str, Tensor]) -> Path:
    """A training checkpoint as the authors save it; its "model" weights are twice its EMA weights."""
    model = {f"module.{key}": value if key == "pos_embed" else 2 * value for key, value in ema.items()}
    arguments = argparse.Namespace(image_size=224, autocast=False)
    torch.save({"model": model, "ema": ema, "opt": {"state": {}}, "args": arguments}, path)
    return path


def save_vae(folder: Path, channels: int = 4, levels: int = 4) -> Path:
    """A small VAE in diffusers' layout."""
    torch.manual_seed(2)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        norm_num_groups=4,
        layers_per_block=1,
        latent_channels=channels,
    ).save_pretrained(folder)
    return folder


def save_open_clip(folder: Path, width: int = 32) -> Path:
    """A small image encoder in open_clip's layout."""
    torch.manual_seed(3)
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    folder.mkdir(parents=True)
    config = {"model_cfg": {"embed_dim": width, "vision_cfg": vision, "text_cfg": {}}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = ImageEncoder(width, vision).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "open_clip_model.safetensors")
    return folder
