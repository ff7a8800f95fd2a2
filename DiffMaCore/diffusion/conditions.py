"""CT slices in, what the denoiser is conditioned on out (paper, Eq. 6), computed once a slice.

Inference and training both come through here, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

from DiffMaCore.models.autoencoders import Autoencoder
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.image_encoder import ImageEncoder

Window = tuple[float, float]


class Conditions(NamedTuple):
    """``clip_embedding`` (B, D), ``ct_embedding`` (B, L, D), ``soft_mask`` (B, L, 1), ``ct_latent`` (B, 4, S', S') and,
    for networks that take them, ``ct_pixels`` (B, C, S, S; see :func:`neighbour_pixels`) of B slices."""

    clip_embedding: Tensor
    ct_embedding: Tensor
    soft_mask: Tensor
    ct_latent: Tensor
    ct_pixels: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Conditions:
        """The same with every tensor changed."""
        return Conditions(*(change(part) for part in self if part is not None))


def together(parts: Sequence[Conditions]) -> Conditions:
    """Of several slices, those of all."""
    given = [each for each in zip(*parts, strict=True) if each[0] is not None]
    return Conditions(*(torch.cat(each) for each in given))


def over_four_grids(evaluate: Callable[[Conditions], Tensor], conditions: Conditions, shift: int) -> Tensor:
    """Latents (B, C, S', S') that a network expects, averaged over four places of its grid of tokens.

    Tokens see the CT's pixels in squares that do not overlap; three more evaluations, of pixels moved by ``shift``
    latent pixels down, right, and both, see across their borders. ``shift`` 0: one evaluation.
    """
    latents, ct_pixels = evaluate(conditions), conditions.ct_pixels
    if not shift or ct_pixels is None:
        return latents
    factor = ct_pixels.shape[-1] // latents.shape[-1]
    for down, right in ((shift, 0), (0, shift), (shift, shift)):
        moved = conditions._replace(ct_pixels=ct_pixels.roll((down * factor, right * factor), (-2, -1)))
        latents = latents + evaluate(moved).roll((-down, -right), (-2, -1))
    return latents / 4


def mr_to_pixels(mr: Tensor) -> Tensor:
    """Normalised MR slices (B, S, S) in [-1, 1] to the VAE's input (B, 3, S, S)."""
    return mr[:, None].expand(-1, 3, -1, -1)


def source_pixels(source: Tensor, windows: Sequence[Window] | None) -> Tensor:
    """Source slices (B, S, S) to the VAE's input (B, 3, S, S) in [-1, 1].

    A CT in HU goes through its (low, high) ``windows``, one for all three channels or one a channel, clipped; an MRI,
    which has none, stays as it is.
    """
    if windows is None:
        return mr_to_pixels(source)
    channels = windows if len(windows) == 3 else [windows[0]] * 3
    low, high = (source.new_tensor(ends)[:, None, None] for ends in zip(*channels, strict=True))
    return ((source[:, None] - low) / (high - low) * 2 - 1).clamp(-1, 1)


def neighbour_pixels(source: Tensor, windows: Sequence[Window] | None) -> Tensor:
    """Slices with their neighbours (B, 3, S, S: one below, own, one above) to pixels (B, C, S, S) in [-1, 1].

    C is 9 where there are three HU ``windows``, those of each slice together; with one window, or of an MRI, 3.
    """
    pixels = source_pixels(source.flatten(0, 1), windows)
    channels = 3 if windows is not None and len(windows) == 3 else 1
    return pixels[:, :channels].unflatten(0, source.shape[:2]).flatten(1, 2)


def encode(vae: Autoencoder, pixels: Tensor) -> Tensor:
    """Latents (B, 4, S', S') of pixels (B, 3, S, S): the posterior's mode, so that two runs agree."""
    return vae.encode(pixels).latent_dist.mode() * vae.config["scaling_factor"]


def decode(vae: Autoencoder | AutoencoderTiny, latents: Tensor) -> Tensor:
    """MR slices (B, S, S) in [-1, 1] of latents (B, 4, S', S'): the mean of the decoded channels.

    A small decoder takes the latents as they are: its ``scaling_factor`` is 1.
    """
    return vae.decode(latents / vae.config["scaling_factor"]).sample.mean(dim=1).clamp(-1, 1)


def encoder_pixels(
    pixels: Tensor, size: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Tensor:
    """Pixels (B, 3, S, S) in [-1, 1] as the image encoder takes them: its size, and its mean and std if given.

    Without ``mean`` and ``std`` the encoder sees [-1, 1], as in the released code.
    """
    if pixels.shape[-1] != size:
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    if mean is None or std is None:
        return pixels
    shape = (1, 3, 1, 1)
    return ((pixels + 1) / 2 - pixels.new_tensor(mean).view(shape)) / pixels.new_tensor(std).view(shape)


def compute_conditions(
    source: Tensor,
    windows: Sequence[Window] | None,
    vae: Autoencoder,
    image_encoder: ImageEncoder,
    embedder: VisionEmbedder,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    with_pixels: bool = True,
) -> Conditions:
    """All conditions of source slices with their neighbours (B, 3, S, S), a CT in HU or an MRI in [-1, 1]."""
    pixels = source_pixels(source[:, 1], windows)
    ct_latent = encode(vae, pixels)
    soft_mask, ct_embedding = embedder(ct_latent)
    clip_embedding = image_encoder(encoder_pixels(pixels, image_encoder.image_size, mean, std))
    ct_pixels = neighbour_pixels(source, windows) if with_pixels else None
    return Conditions(clip_embedding, ct_embedding, soft_mask, ct_latent, ct_pixels)
