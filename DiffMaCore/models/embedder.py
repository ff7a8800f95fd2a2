"""The Vision Embedder: soft mask and CT embedding from a CT latent (paper, Figure 3 and Eqs. 7-8)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.models.layers import PatchEmbedding

MASK_REDUCTION = 14


class EmbedderOutput(NamedTuple):
    """``soft_mask`` (B, L, 1) in (0, 1) and ``ct_embedding`` (B, L, D)."""

    soft_mask: Tensor
    ct_embedding: Tensor


class VisionEmbedder(ModelMixin, ConfigMixin):
    """CT latent (B, 4, S, S) to a weight for every token and an embedding of every token.

    The mask's MLP mixes token positions, so an embedder fits the one grid it was made for.

    Args:
        latent_size, patch_size, width, in_channels: as the denoiser's.
        mask_hidden: hidden width of the mask's MLP; None is L / 14.
    """

    @register_to_config
    def __init__(
        self,
        latent_size: int = 28,
        patch_size: int = 2,
        width: int = 512,
        in_channels: int = 4,
        mask_hidden: int | None = None,
    ) -> None:
        super().__init__()
        self.patches = PatchEmbedding(latent_size, patch_size, in_channels, width)
        tokens = self.patches.grid**2
        hidden = mask_hidden or max(1, tokens // MASK_REDUCTION)
        self.mask_mlp = nn.Sequential(nn.Linear(tokens, hidden), nn.ReLU(), nn.Linear(hidden, tokens))
        self.norm = nn.LayerNorm(width)

    def forward(self, ct_latent: Tensor) -> EmbedderOutput:
        tokens = self.patches(ct_latent)
        # both statistics are over channels, which leaves one number a token
        logits = self.mask_mlp(tokens.mean(dim=2)) + self.mask_mlp(tokens.amax(dim=2))
        soft_mask = torch.sigmoid(logits)[..., None]
        return EmbedderOutput(soft_mask, self.norm(tokens * soft_mask))


def info_nce(embedding: Tensor, other: Tensor | None = None, temperature: float = 0.07) -> Tensor:
    """InfoNCE between the slices of a batch (Eqs. 7 and 8).

    Args:
        embedding: CT embeddings (B, L, D).
        other: a second view of the same slices. None is the paper's loss, a batch against itself, whose
            diagonal is fixed at 1/temperature: it can only push slices apart.
        temperature: tau.

    Returns:
        Scalar loss; with two views, the mean over both directions.
    """
    first = F.normalize(embedding.flatten(1), dim=1)
    second = first if other is None else F.normalize(other.flatten(1), dim=1)
    similarity = first @ second.T / temperature
    target = torch.arange(len(similarity), device=similarity.device)
    if other is None:
        return F.cross_entropy(similarity, target)
    return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
