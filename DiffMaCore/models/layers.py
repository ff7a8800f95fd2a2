"""Layers around the Mamba blocks: patch embedding, fixed positions, timestep embedding, final layer; and the block of
the small convolutional decoders."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.ops.dense import Dense
from DiffMaCore.presets import check_patch


class PatchEmbedding(nn.Module):
    """Cuts a latent (B, C, S, S) into patches and projects each to a token: (B, L, D), raster order."""

    def __init__(self, latent_size: int, patch_size: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.grid = check_patch(latent_size, patch_size)
        self.latent_size = latent_size
        self.proj = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)

    def forward(self, latent: Tensor) -> Tensor:
        if latent.shape[-2:] != (self.latent_size, self.latent_size):
            raise ValueError(
                f"this model takes latents of {self.latent_size} x {self.latent_size}, "
                f"not {latent.shape[-2]} x {latent.shape[-1]}"
            )
        return self.proj(latent).flatten(2).transpose(1, 2)


class PixelEmbedding(nn.Module):
    """CT pixels (B, C, S, S), one linear layer from those of each patch to its token: (B, L, D), raster order."""

    def __init__(self, patch: int, channels: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = Dense(channels * patch * patch, width)

    def forward(self, pixels: Tensor) -> Tensor:
        rows = pixels.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))
        return self.proj(rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2))


def sincos_positions(width: int, grid: int) -> Tensor:
    """Fixed 2D sine-cosine positions (1, grid*grid, D): half of the width codes columns, half rows."""
    if width % 4:
        raise ValueError(f"a width of {width} cannot hold 2D sine-cosine positions: it must be a multiple of 4")
    frequencies = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns = axis[None].expand(grid, -1, -1)
    rows = axis[:, None].expand(-1, grid, -1)
    return torch.cat([columns, rows], dim=2).reshape(1, grid * grid, width).float()


class TimestepEmbedding(nn.Module):
    """Diffusion timestep (B,) to a vector (B, D): sinusoids, then a two-layer MLP."""

    frequencies = 256

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Dense(self.frequencies, width), nn.SiLU(), Dense(width, width))

    def forward(self, t: Tensor) -> Tensor:
        half = self.frequencies // 2
        rates = torch.exp(-math.log(10000) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
        angles = t.float()[:, None] * rates
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1).to(next(self.mlp.parameters()).dtype))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN: tokens (B, L, D) scaled and shifted by a condition (B, D)."""
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class FinalLayer(nn.Module):
    """adaLN and a projection of every token (B, L, D) to its patch (B, L, patch*patch*channels)."""

    def __init__(self, width: int, condition_width: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.width = width
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Dense(condition_width, 2 * width))
        self.linear = Dense(width, patch_size * patch_size * out_channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=1)
        return self.linear(modulate(F.layer_norm(x, (self.width,), eps=1e-6), shift, scale))


def unpatchify(tokens: Tensor, grid: int, patch_size: int) -> Tensor:
    """Tokens (B, L, patch*patch*C) back to an image (B, C, grid*patch, grid*patch)."""
    x = tokens.unflatten(1, (grid, grid)).unflatten(3, (patch_size, patch_size, -1))
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


class ResidualBlock(nn.Module):
    """Maps (B, C, H, W) and what two 3 x 3 convolutions add to them; nothing, to begin with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(max(1, min(8, channels // 4)), channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.second(F.silu(self.first(F.silu(self.norm(h)))))
