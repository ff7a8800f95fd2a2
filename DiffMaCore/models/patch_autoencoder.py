"""The patch autoencoder: an MR slice as the principal components of its patches, and a decoder that knows more.

The encoder is linear and orthogonal, so that distances between latents are distances between slices (but for what the
dropped components hold), and costs next to nothing. The decoder adds to the linear reconstruction what the components
around a patch tell of its dropped ones. It has the interface of diffusers' ``AutoencoderKL``, whose place it takes.
"""

from __future__ import annotations

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.models.layers import ResidualBlock


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Pixels (B, 3, S, S) in [-1, 1] to latents (B, C, S / f, S / f) and back; the three channels are averaged.

    Args:
        factor: f, the side of a patch.
        latent_channels: C, components that are kept, at most f squared.
        channels: width of the decoder, at the latent's size.
        blocks: its residual blocks.
        scaling_factor: by which latents are multiplied to have unit variance.
    """

    @register_to_config
    def __init__(
        self,
        factor: int = 4,
        latent_channels: int = 8,
        channels: int = 64,
        blocks: int = 4,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        if latent_channels > factor**2:
            raise ValueError(f"a patch of {factor} x {factor} pixels has no {latent_channels} components")
        self.components = nn.Parameter(torch.eye(factor**2)[:latent_channels], requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(factor**2), requires_grad=False)
        self.widen = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.refine = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))
        self.narrow = nn.Conv2d(channels, factor**2, 3, padding=1)
        nn.init.zeros_(self.narrow.weight)

    @torch.no_grad()
    def fit(self, slices: Tensor) -> None:
        """Take the principal components of the patches of slices (N, S, S), and the factor that scales latents."""
        factor, kept = self.config["factor"], self.config["latent_channels"]
        patches = F.pixel_unshuffle(slices[:, None].double(), factor).permute(0, 2, 3, 1).flatten(0, 2)
        self.mean.copy_(patches.mean(dim=0))
        _, axes = torch.linalg.eigh(torch.cov((patches - patches.mean(dim=0)).T))
        axes = axes.T.flip(0)[:kept]
        self.components.copy_(axes * axes.sum(dim=1, keepdim=True).sign())  # the first is brightness, not darkness
        spread = self._encoded(slices[:, None]).std()
        self.register_to_config(scaling_factor=float(1 / spread))

    def encode(self, pixels: Tensor) -> AutoencoderKLOutput:
        """Latents of pixels (B, 3, S, S); there is one for a slice, whose distribution is no more than its place."""
        latents = self._encoded(pixels.mean(dim=1, keepdim=True))
        parameters = torch.cat([latents, torch.zeros_like(latents)], dim=1)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(parameters, deterministic=True))

    def decode(self, latents: Tensor) -> DecoderOutput:
        """Pixels (B, 3, S, S) of latents before scaling."""
        h = self.widen(latents)
        for block in self.refine:
            h = block(h)
        linear = torch.einsum("bchw,cp->bphw", latents, self.components) + self.mean[:, None, None]
        pixels = F.pixel_shuffle(linear + self.narrow(F.silu(h)), self.config["factor"])
        return DecoderOutput(sample=pixels.expand(-1, 3, -1, -1))

    def _encoded(self, pixels: Tensor) -> Tensor:
        patches = F.pixel_unshuffle(pixels, self.config["factor"]) - self.mean[:, None, None]
        return torch.einsum("bphw,cp->bchw", patches, self.components)
