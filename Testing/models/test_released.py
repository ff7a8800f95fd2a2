"""Released weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from DiffMaCore.errors import ModelError
from DiffMaCore.models import released


def _golden(shared: Path, name: str) -> tuple[dict[str, torch.Tensor], ...]:
    stored = np.load(shared / "golden" / f"{name}.npz")
    arrays = {key: torch.from_numpy(stored[key]) for key in stored.files}
    denoiser = {k.removeprefix("denoiser."): v for k, v in arrays.items() if k.startswith("denoiser.")}
    embedder = {k.removeprefix("embedder."): v for k, v in arrays.items() if k.startswith("embedder.")}
    return denoiser, embedder, arrays


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("name", ["spiral_grid4", "spiral_grid7"])
def test_every_golden_vector_is_met(shared: Path, name: str, backend: str) -> None:
    denoiser_state, embedder_state, given = _golden(shared, name)
    latent_size, patch_size = (int(v) for v in given["meta"][:2])
    denoiser = released.load_denoiser(denoiser_state, latent_size, patch_size)
    denoiser.set_scan_backend(backend)
    embedder = released.load_embedder(embedder_state, latent_size, patch_size)
    with torch.inference_mode():
        soft_mask, ct_embedding = embedder(given["ct_latent"])
        out = denoiser(given["x"], given["t"], given["clip"], ct_embedding, soft_mask).sample
    for ours, golden in ((soft_mask, "soft_mask"), (ct_embedding, "ct_embedding"), (out, "out")):
        torch.testing.assert_close(ours, given[golden], atol=1e-4, rtol=0)
    assert denoiser.config["scan_order"] == "released"


def test_weights_of_another_kind_are_refused_with_the_missing_key() -> None:
    with pytest.raises(ModelError, match=r"x_embedder\.proj\.weight"):
        released.load_denoiser({"conv.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"vision_embedding\.proj\.weight"):
        released.load_embedder({"conv.weight": torch.zeros(1)})


def test_weights_of_another_latent_size_are_refused_with_both_sizes(shared: Path) -> None:
    denoiser_state, embedder_state, _ = _golden(shared, "spiral_grid4")
    with pytest.raises(ModelError, match="16 tokens"):
        released.load_denoiser(denoiser_state, 28, 2)
    with pytest.raises(ModelError, match="16 tokens"):
        released.load_embedder(embedder_state, 28, 2)


def test_incomplete_weights_are_refused(shared: Path) -> None:
    denoiser_state, _, _ = _golden(shared, "spiral_grid4")
    del denoiser_state["blocks.2.attention_network.1.bias"]
    with pytest.raises(ModelError, match=r"blocks\.2\.spatial_attention\.1\.bias"):
        released.load_denoiser(denoiser_state, 8, 2)
