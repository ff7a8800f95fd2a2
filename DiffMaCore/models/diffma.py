"""DiffMa, the paper's Figure 2 from the noisy latent to the noise in it: SpiralMamba, DiffMaBlock, DiffMa.

Plain mathematics. What makes it fast stands behind two names: ``spiral_scan`` runs on the chosen back end, and
``by_fused_kernels`` takes a whole block to fused kernels where they apply. The frame of DiffMa also holds the blocks of
the other models of the paper's Table 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from DiffMaCore.models.contrasts import OfContrasts
from DiffMaCore.models.frame import BlockSettings
from DiffMaCore.models.layers import (
    FinalLayer,
    PatchEmbedding,
    PixelEmbedding,
    TimestepEmbedding,
    modulate,
    sincos_positions,
    unpatchify,
)
from DiffMaCore.models.orders import SCAN_ORDERS, ScanOrder, directions, inverse
from DiffMaCore.models.ssm import StackedSSM, uniform
from DiffMaCore.ops.dense import Dense, dense_each
from DiffMaCore.ops.spiral.order import by_fused_kernels, spiral_scan
from DiffMaCore.presets import size_name

BRANCHES = 2  # of a block: with the soft mask and without
CtConditioning = Literal["pooled", "tokens", "pixels"]
CT_CONDITIONINGS: tuple[str, ...] = get_args(CtConditioning)


class SpiralMamba(StackedSSM):
    """Both Mambas of a block (paper, "Spiral-Scan"): one sees the tokens, the other the soft-masked tokens.

    Each scans three orders of the tokens with one set of parameters: raster, the block's spiral, and the same spiral
    the other way. The gate does not depend on the order and out_proj is linear, so the three outputs are summed before
    both. The parameters of both are stacked along a leading axis of two, so that all is one batch.

    Args:
        width: token width D.
        grid: cells a side of the token grid.
        block: number of the block, which chooses the spiral scheme (``block mod 8``).
        scan_order: "spiral", or "released" for the authors' index lists.
        state_size, conv_size, expand: N, kernel and expansion of each Mamba.
    """

    order: Tensor
    position: Tensor

    def __init__(
        self,
        width: int,
        grid: int,
        block: int,
        *,
        scan_order: ScanOrder = "spiral",
        state_size: int = 16,
        conv_size: int = 4,
        expand: int = 2,
    ) -> None:
        inner = expand * width
        super().__init__(width, inner, state_size, sets=BRANCHES)
        order = directions(grid, block, scan_order)
        self.register_buffer("order", torch.from_numpy(order), persistent=False)
        self.register_buffer("position", torch.from_numpy(inverse(order)), persistent=False)
        self.in_proj = nn.Parameter(uniform(BRANCHES, 2 * inner, width))
        self.conv_weight = nn.Parameter(uniform(BRANCHES, inner, conv_size))
        self.conv_bias = nn.Parameter(uniform(BRANCHES, inner, fan_in=conv_size))
        self.out_proj = nn.Parameter(uniform(BRANCHES, width, inner))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of both branches (2, B, L, D), raster order, to their outputs (2, B, L, D)."""
        flat = tokens.flatten(1, 2)
        x, z = (dense_each(flat, w).unflatten(1, tokens.shape[1:3]) for w in self.in_proj.chunk(2, dim=1))
        return dense_each(spiral_scan(x, z, self).flatten(1, 2), self.out_proj).view_as(tokens)


class DiffMaBlock(nn.Module):
    """Two spiral Mambas, spatial-attention blend, adaLN-zero (paper, Figure 2); arguments as :class:`SpiralMamba`'s."""

    def __init__(self, width: int, grid: int, block: int, **options: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Dense(2 * width, 3 * width))
        self.mamba = SpiralMamba(width, grid, block, **options)
        self.spatial_attention = nn.Sequential(
            nn.LayerNorm(2 * width), Dense(2 * width, width), nn.SiLU(), Dense(width, 1), nn.Sigmoid()
        )

    @classmethod
    def of(cls, size: BlockSettings, block: int) -> DiffMaBlock:
        """Block number ``block`` of a network; the number decides its spirals."""
        options = {name: getattr(size, name) for name in ("scan_order", "state_size", "conv_size", "expand")}
        return cls(size.width, size.grid, block, **options)

    @by_fused_kernels
    def forward(self, x: Tensor, condition: Tensor, soft_mask: Tensor) -> Tensor:
        """Tokens (B, L, D), condition (B, 2D) and soft mask (B, L, 1) to tokens (B, L, D)."""
        shift, scale, gate = self.adaLN_modulation(condition).chunk(3, dim=1)
        h = modulate(self.norm(x), shift, scale)
        plain, masked = self.mamba(torch.stack([h, h * soft_mask]))
        blend = self.spatial_attention(torch.cat([plain, masked], dim=2))
        return torch.addcmul(x, gate[:, None], torch.lerp(masked, plain, blend))


BLOCKS: dict[str, Callable[[BlockSettings, int], nn.Module]] = {"diffma": DiffMaBlock.of}
"""Registry of backbones: what makes block number i of a network; ``DiffMaCore.baselines`` adds those of Table 2."""


@dataclass
class DenoiserOutput(BaseOutput):
    """``sample``: (B, 4, S, S) epsilon, followed by 4 channels of variance where it is learned."""

    sample: Tensor


class DiffMa(OfContrasts, ModelMixin, ConfigMixin):
    """Predicts the noise in an MR latent from the timestep and the conditions of a CT slice.

    Args:
        latent_size: side S of the latent.
        patch_size: side of a patch; it must divide ``latent_size``.
        width: token width D.
        depth: number of blocks.
        in_channels: channels of the latent.
        state_size, conv_size, expand: N, kernel and expansion of each Mamba.
        inner: inner width of another model's block where it is not the published one (see ``BlockSettings``).
        scan_order: "spiral" (the paper's) or "released" (the authors' index lists, for their weights).
        learn_sigma: also predict the variance range (Nichol and Dhariwal 2021), doubling the output.
        ct_conditioning: "pooled" gives the CT as the paper and its code do, as a mean vector and the soft
            mask; "tokens" also adds a projection of each CT token to the noisy token at its place; "pixels" adds a
            projection of the CT's own pixels of the token's patch, which no mask touches.
        pixel_channels: of these pixels, neighbouring slices times HU windows.
        pixel_factor: CT pixels along one side of a latent's pixel.
        contrasts: target contrasts that one network learns, told apart by an embedding of their own; 1: none.
        backbone: the blocks in this frame, a key of ``BLOCKS``; those of other models go without long skips.

    Raises:
        ValueError: the patch does not divide the latent, or an unknown choice.
    """

    _keep_in_fp32_modules = list(StackedSSM.float32)  # noqa: RUF012  diffusers' own name and type

    contrast_bias = "timestep.mlp.2.bias"
    positions: Tensor

    @register_to_config
    def __init__(
        self,
        latent_size: int = 28,
        patch_size: int = 2,
        width: int = 512,
        depth: int = 8,
        in_channels: int = 4,
        state_size: int = 16,
        conv_size: int = 4,
        expand: int = 2,
        scan_order: ScanOrder = "spiral",
        learn_sigma: bool = True,
        ct_conditioning: CtConditioning = "pooled",
        backbone: str = "diffma",
        inner: int | None = None,
        pixel_channels: int = 9,
        pixel_factor: int = 4,
        contrasts: int = 1,
    ) -> None:
        super().__init__()
        if scan_order not in SCAN_ORDERS:
            raise ValueError(f"scan_order is {scan_order!r}; it can be one of {', '.join(SCAN_ORDERS)}")
        if ct_conditioning not in CT_CONDITIONINGS:
            raise ValueError(f"ct_conditioning is {ct_conditioning!r}; it can be one of {', '.join(CT_CONDITIONINGS)}")
        if backbone not in BLOCKS:
            raise ValueError(f"backbone is {backbone!r}; it can be one of {', '.join(BLOCKS)}")
        if inner is not None and backbone == "diffma":
            raise ValueError("inner is for the other backbones; DiffMa's inner width is expand times the width")
        self.out_channels = in_channels * (2 if learn_sigma else 1)
        self.patches = PatchEmbedding(latent_size, patch_size, in_channels, width)
        self.grid = self.patches.grid
        self.scan_backend = "auto"
        self.register_buffer("positions", sincos_positions(width, self.grid), persistent=False)
        self.timestep = TimestepEmbedding(width)
        self.ct_tokens = Dense(width, width) if ct_conditioning == "tokens" else None
        self.ct_pixels = None
        if ct_conditioning == "pixels":
            self.ct_pixels = PixelEmbedding(pixel_factor * patch_size, pixel_channels, width)
        self.contrast = nn.Embedding(contrasts, width) if contrasts > 1 else None
        settings = BlockSettings(width, self.grid, state_size, conv_size, expand, inner, scan_order)
        self.blocks = nn.ModuleList(BLOCKS[backbone](settings, i) for i in range(depth))
        self.long_skips = backbone == "diffma"
        self.final = FinalLayer(width, 2 * width, patch_size, self.out_channels)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Xavier for the plain linear layers, zero for modulations and output; Mamba keeps its own."""
        mambas = [module for module in self.modules() if isinstance(module, StackedSSM)]
        theirs = {layer for mamba in mambas for layer in mamba.modules()}
        for module in self.modules():
            if isinstance(module, nn.Linear) and module not in theirs:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        if self.contrast is not None:
            nn.init.normal_(self.contrast.weight, std=0.02)
        nn.init.xavier_uniform_(self.patches.proj.weight.flatten(1))
        nn.init.zeros_(self.patches.proj.bias)  # type: ignore[arg-type]
        for layer in self.timestep.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        modulations = [module for name, module in self.named_modules() if name.endswith("adaLN_modulation")]
        for module in (*modulations, self.final.linear):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)

    @property
    def tokens(self) -> int:
        """Number of tokens L."""
        return self.grid * self.grid

    @property
    def uses_scan(self) -> bool:
        """Whether there is a selective scan in it (DiT has none)."""
        return self.config["backbone"] != "dit"

    @property
    def title(self) -> str:
        """Name and size for people: "L/2", or "dit 512x7/2"."""
        config = self.config
        if config["backbone"] == "diffma":
            return size_name(config["width"], config["depth"], config["patch_size"])
        return f"{config['backbone']} {config['width']}x{config['depth']}/{config['patch_size']}"

    @property
    def scan_order(self) -> str:
        """Order of the scan: DiffMa's "spiral" or "released", else the name of the backbone, whose own it is."""
        if not self.uses_scan:
            return "none"
        return self.config["scan_order"] if self.config["backbone"] == "diffma" else self.config["backbone"]

    @property
    def floats_per_slice(self) -> int:
        """Numbers that are alive at once in one evaluation of one slice, roughly."""
        inner = self.config["inner"] or self.config["expand"] * self.config["width"]
        return self.tokens * inner * (12 * 3 + 2 * self.config["depth"])

    def set_scan_backend(self, name: str) -> None:
        """Run every block's selective scan on the named back end ("auto" chooses)."""
        self.scan_backend = name
        for module in self.modules():
            if isinstance(module, StackedSSM):
                module.backend = name

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        clip_embedding: Tensor,
        ct_embedding: Tensor,
        soft_mask: Tensor,
        ct_latent: Tensor | None = None,
        ct_pixels: Tensor | None = None,
        contrast: Tensor | None = None,
    ) -> DenoiserOutput:
        """One evaluation.

        Args:
            x: noisy latents (B, 4, S, S).
            t: timesteps (B,), 0 to 999.
            clip_embedding: pooled image-encoder embedding of the CT (B, D).
            ct_embedding: Vision Embedder's CT embedding (B, L, D).
            soft_mask: Vision Embedder's soft mask (B, L, 1).
            ct_latent: the CT's latent, which the U-Net takes in place of tokens; not used here.
            ct_pixels: the CT's own pixels (B, C, S', S') in [-1, 1]; for "pixels" alone.
            contrast: which target contrast (B,); for a network that learns several.
        """
        h = self.patches(x) + self.positions.to(self.patches.proj.weight.dtype)
        if self.ct_tokens is not None:
            h = h + self.ct_tokens(ct_embedding)
        if self.ct_pixels is not None:
            if ct_pixels is None:
                raise ValueError("this model is conditioned on the CT's pixels; pass ct_pixels")
            h = h + self.ct_pixels(ct_pixels)
        time = self.with_contrast(self.timestep(t), contrast)
        condition = torch.cat([time + clip_embedding, time + ct_embedding.mean(dim=1)], dim=1)

        outputs: list[Tensor] = []
        depth = len(self.blocks)
        for i, block in enumerate(self.blocks):
            if self.long_skips and i > depth / 2:  # long skip: additive, without parameters
                h = h + outputs[depth - 1 - i]
            h = block(h, condition, soft_mask)
            outputs.append(h)
        patches = self.final(h, condition)
        return DenoiserOutput(sample=unpatchify(patches, self.grid, self.config["patch_size"]))
