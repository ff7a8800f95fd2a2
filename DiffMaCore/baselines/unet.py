"""The denoiser of latent diffusion (Rombach et al. 2022): a U-Net of 3 x 3 residual blocks with attention.

The layout is CompVis/latent-diffusion's for latents of a factor of 8 (``cin-ldm-vq-f8``): two residual blocks a
level, channels times 1, 2 and 4, attention on every level. The CT's latent is concatenated to the noisy one, as
there for images given images; the pooled conditions that DiffMa gets join the timestep.
"""

from __future__ import annotations

import math

import torch
from diffusers import ModelMixin, UNet2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.models.contrasts import OfContrasts
from DiffMaCore.models.diffma import DenoiserOutput

MULTIPLES = (1, 2, 4)
HEAD_WIDTH = 32


class UNetDenoiser(OfContrasts, ModelMixin, ConfigMixin):
    """Predicts the noise in an MR latent; takes the arguments of :class:`DiffMa`, whose frame it does not share.

    Args:
        latent_size: side S of the latent; a level is left out where its map would not have a whole side.
        width: width D of the conditions.
        channels: of the first level, a multiple of 4.
        time_width: width of the timestep's embedding; None is four times ``channels``.
        layers: residual blocks a level, 2 as published.
        in_channels: channels of the latents.
        learn_sigma: also predict the variance range, doubling the output.
        pixel_channels, pixel_factor: of the CT's own pixels, concatenated at the latent's size; 0 channels: none.
        contrasts: target contrasts that one network learns, as :class:`DiffMa`'s.
    """

    uses_scan = False
    scan_order = "none"
    contrast_bias = "condition.bias"

    @register_to_config
    def __init__(
        self,
        latent_size: int = 28,
        width: int = 512,
        channels: int = 128,
        time_width: int | None = None,
        layers: int = 2,
        in_channels: int = 4,
        learn_sigma: bool = True,
        pixel_channels: int = 0,
        pixel_factor: int = 4,
        contrasts: int = 1,
    ) -> None:
        super().__init__()
        if channels < 4 or channels % 4:
            raise ValueError(f"a U-Net of {channels} channels cannot be built; they must be a multiple of 4")
        levels = min(len(MULTIPLES), 1 + (latent_size & -latent_size).bit_length() - 1)
        groups = math.gcd(channels, 32)
        time_width = time_width or 4 * channels
        self.scan_backend = "auto"
        self.condition = nn.Linear(2 * width, time_width)
        self.unet = UNet2DModel(
            sample_size=latent_size,
            in_channels=2 * in_channels + pixel_channels * pixel_factor**2,
            out_channels=in_channels * (2 if learn_sigma else 1),
            block_out_channels=tuple(channels * multiple for multiple in MULTIPLES[:levels]),
            down_block_types=("AttnDownBlock2D",) * levels,
            up_block_types=("AttnUpBlock2D",) * levels,
            layers_per_block=layers,
            attention_head_dim=min(HEAD_WIDTH, channels),
            norm_num_groups=groups,
            attn_norm_num_groups=groups,
            resnet_time_scale_shift="scale_shift",
            time_embedding_dim=time_width,
            class_embed_type="identity",
        )
        self.contrast = nn.Embedding(contrasts, time_width) if contrasts > 1 else None
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    @property
    def title(self) -> str:
        """Name and size for people."""
        return f"unet {self.config['channels']}"

    @property
    def floats_per_slice(self) -> int:
        """Numbers that are alive at once in one evaluation of one slice, roughly."""
        return 60 * self.config["channels"] * self.config["latent_size"] ** 2

    def set_scan_backend(self, name: str) -> None:
        """Nothing is scanned here; the name is kept for those who ask."""
        self.scan_backend = name

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
        """One evaluation; arguments as :meth:`DiffMa.forward`'s, of which ``soft_mask`` is not used."""
        if ct_latent is None:
            raise ValueError("this denoiser is conditioned on the CT's latent; pass ct_latent")
        condition = self.condition(torch.cat([clip_embedding, ct_embedding.mean(dim=1)], dim=1))
        given = [x, ct_latent]
        if self.config["pixel_channels"]:
            if ct_pixels is None:
                raise ValueError("this denoiser is conditioned on the CT's pixels; pass ct_pixels")
            given.append(F.pixel_unshuffle(ct_pixels, self.config["pixel_factor"]))
        condition = self.with_contrast(condition, contrast)
        return DenoiserOutput(sample=self.unet(torch.cat(given, dim=1), t, class_labels=condition).sample)
