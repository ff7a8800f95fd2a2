"""The Vision Embedder and its loss."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from DiffMaCore import VisionEmbedder
from DiffMaCore.models.embedder import info_nce


def _latents(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 4, 28, 28, generator=torch.Generator().manual_seed(0))


def test_it_gives_a_weight_and_an_embedding_for_every_token() -> None:
    soft_mask, ct_embedding = VisionEmbedder(width=64)(_latents())
    assert soft_mask.shape == (3, 196, 1)
    assert ct_embedding.shape == (3, 196, 64)
    assert 0 < soft_mask.min() < soft_mask.max() < 1


def test_at_patch_2_and_width_512_it_has_the_released_parameters_but_the_unused_mask_token() -> None:
    assert sum(p.numel() for p in VisionEmbedder().parameters()) == 15_938 - 512


def test_saved_and_loaded_embedders_are_equal(tmp_path: Path) -> None:
    embedder = VisionEmbedder(width=32).eval()
    embedder.save_pretrained(tmp_path)
    loaded = VisionEmbedder.from_pretrained(tmp_path).eval()
    assert torch.equal(embedder(_latents()).soft_mask, loaded(_latents()).soft_mask)


def test_the_papers_loss_is_eq_8_with_its_diagonal_at_one_over_tau() -> None:
    embedding = torch.randn(4, 9, 8, generator=torch.Generator().manual_seed(0))
    flat = embedding.flatten(1)
    flat = flat / flat.norm(dim=1, keepdim=True)
    similarity = flat @ flat.T / 0.07
    assert torch.allclose(similarity.diagonal(), torch.full((4,), 1 / 0.07))
    expected = -(similarity.diagonal() - similarity.logsumexp(dim=1)).mean()
    torch.testing.assert_close(info_nce(embedding), expected)


def test_two_views_of_the_same_slices_are_drawn_together() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(4, 9, 8, generator=generator)
    near = first + 0.05 * torch.randn(4, 9, 8, generator=generator)
    far = torch.randn(4, 9, 8, generator=generator)
    assert info_nce(first, near) < 0.01
    assert info_nce(first, far) > math.log(4) / 2
