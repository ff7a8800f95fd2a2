"""The paper authors' released weights in, our models out: their state dicts, key for key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from DiffMaCore.errors import ModelError
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder

Model = TypeVar("Model", bound=torch.nn.Module)

_DENOISER_NAMES = (
    (r"x_embedder\.", "patches."),
    (r"t_embedder\.", "timestep."),
    (r"final_layer\.", "final."),
    (r"(blocks\.\d+)\.norm1\.", r"\1.norm."),
    (r"(blocks\.\d+)\.attention_network\.", r"\1.spatial_attention."),
)
_MAMBA_NAMES = {
    "A_log": "A_log",
    "D": "D",
    "in_proj.weight": "in_proj",
    "conv1d.weight": "conv_weight",
    "conv1d.bias": "conv_bias",
    "x_proj.weight": "x_proj",
    "dt_proj.weight": "dt_weight",
    "dt_proj.bias": "dt_bias",
    "out_proj.weight": "out_proj",
}
_EMBEDDER_NAMES = ((r"vision_embedding\.proj\.", "patches.proj."), (r"fc\.", "mask_mlp."))


def load_denoiser(state_dict: Mapping[str, Tensor], latent_size: int = 28, patch_size: int = 2) -> DiffMa:
    """A :class:`DiffMa` equal to the released model of this state dict, in evaluation mode; sizes are the weights'.

    Raises ModelError where they are not a released DiffMa's, or do not fit ``latent_size`` and ``patch_size``.
    """
    try:
        width, in_channels, patch, _ = state_dict["x_embedder.proj.weight"].shape
        inner, state_size = state_dict["blocks.0.mamba1.A_log"].shape
        conv_size = state_dict["blocks.0.mamba1.conv1d.weight"].shape[-1]
        outputs = state_dict["final_layer.linear.weight"].shape[0]
    except KeyError as missing:
        raise ModelError(
            f"these weights are not a released DiffMa denoiser: they have no {missing}; "
            "give the denoiser's own file (its keys begin with x_embedder, blocks and final_layer)"
        ) from None
    if patch != patch_size:
        raise ModelError(f"these weights use a patch of {patch}, not {patch_size}; ask for patch_size={patch}")
    blocks = {int(m[1]) for key in state_dict if (m := re.match(r"blocks\.(\d+)\.", key))}
    model = DiffMa(
        latent_size=latent_size,
        patch_size=patch_size,
        width=width,
        depth=max(blocks) + 1,
        in_channels=in_channels,
        state_size=state_size,
        conv_size=conv_size,
        expand=inner // width,
        scan_order="released",
        learn_sigma=outputs == 2 * in_channels * patch * patch,
    )
    _check_positions(state_dict.get("pos_embed"), model.positions, latent_size, patch_size)
    return _loaded(model, _rename_denoiser(state_dict))


def load_embedder(state_dict: Mapping[str, Tensor], latent_size: int = 28, patch_size: int = 2) -> VisionEmbedder:
    """The same for a :class:`VisionEmbedder`."""
    try:
        width, in_channels, patch, _ = state_dict["vision_embedding.proj.weight"].shape
        hidden, tokens = state_dict["fc.0.weight"].shape
    except KeyError as missing:
        raise ModelError(
            f"these weights are not a released Vision Embedder: they have no {missing}; "
            "give the embedder's own file (its keys begin with vision_embedding, fc and norm)"
        ) from None
    if patch != patch_size or tokens != (latent_size // patch_size) ** 2:
        raise ModelError(
            f"these embedder weights fit a patch of {patch} and {tokens} tokens, "
            f"not a latent of {latent_size} with a patch of {patch_size}"
        )
    model = VisionEmbedder(latent_size, patch_size, width, in_channels, mask_hidden=hidden)
    # the mask token is a leftover of masked pre-training that no forward pass of the released code reads
    used = {key: value for key, value in state_dict.items() if key != "vision_embedding.mask_token"}
    return _loaded(model, {_rename(key, _EMBEDDER_NAMES): value for key, value in used.items()})


def _rename(key: str, names: tuple[tuple[str, str], ...]) -> str:
    for pattern, ours in names:
        key = re.sub(rf"^{pattern}", ours, key)
    return key


def _rename_denoiser(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if key == "pos_embed":
            continue
        mamba = re.fullmatch(r"(blocks\.\d+)\.mamba1\.(.+)", key)
        if mamba:
            block, name = mamba.groups()
            other = state_dict.get(f"{block}.mamba2.{name}")
            if other is None:
                raise ModelError(f"these weights have {key} but no {block}.mamba2.{name}; the file is incomplete")
            stacked = torch.stack([value, other])
            name = _MAMBA_NAMES.get(name, name)
            renamed[f"{block}.mamba.{name}"] = stacked.squeeze(2) if name == "conv_weight" else stacked
        elif not re.match(r"blocks\.\d+\.mamba2\.", key):
            renamed[_rename(key, _DENOISER_NAMES)] = value
    return renamed


def _check_positions(released: Tensor | None, ours: Tensor, latent_size: int, patch_size: int) -> None:
    if released is None:
        return
    if released.shape != ours.shape:
        raise ModelError(
            f"these weights were made for {released.shape[1]} tokens, but a latent of {latent_size} with a patch "
            f"of {patch_size} has {ours.shape[1]}; give the latent size they were trained with"
        )
    if not torch.allclose(released.float(), ours, atol=1e-4):
        raise ModelError("these weights carry other position embeddings than the released model's sine-cosine ones")


def _loaded(model: Model, state: Mapping[str, Tensor]) -> Model:
    ours = {key: value.shape for key, value in model.state_dict().items()}
    theirs = {key: value.shape for key, value in state.items()}
    if ours != theirs:
        differ = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        raise ModelError(
            f"these weights do not match the released {type(model).__name__} at {differ[0]} "
            f"({len(differ)} entries differ); only weights of the released Mamba-1 model can be loaded"
        )
    model.load_state_dict({key: value.float() for key, value in state.items()})
    return model.eval()
