"""The mean of two bundles (``python -m Training.average``)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from DiffMaCore import DiffMaPipeline
from DiffMaCore.errors import InputError
from Training.average import average


def test_the_mean_of_two_bundles_is_a_whole_bundle_half_way_between_their_networks(
    expecting_bundle: Path, tmp_path: Path
) -> None:
    first, second = (DiffMaPipeline.from_pretrained(expecting_bundle) for _ in range(2))
    with torch.no_grad():
        for name in ("denoiser", "guided_decoder"):
            for weight in getattr(second, name).parameters():
                weight += 1
    second.save_pretrained(tmp_path / "second")
    average(expecting_bundle, tmp_path / "second", tmp_path / "mean")
    mean = DiffMaPipeline.from_pretrained(tmp_path / "mean")
    for name in ("denoiser", "guided_decoder"):
        pairs = zip(getattr(first, name).parameters(), getattr(mean, name).parameters(), strict=True)
        assert all(torch.allclose(ours + 0.5, theirs, atol=1e-6) for ours, theirs in pairs), name
    assert mean.bundle == second.bundle


def test_one_network_of_a_bundle_takes_its_place_in_the_other(expecting_bundle: Path, tmp_path: Path) -> None:
    first, second = (DiffMaPipeline.from_pretrained(expecting_bundle) for _ in range(2))
    with torch.no_grad():
        for weight in (*first.guided_decoder.parameters(), *first.denoiser.parameters()):
            weight += 1
    first.save_pretrained(tmp_path / "first")
    average(tmp_path / "first", expecting_bundle, tmp_path / "both", share=1.0, only="guided_decoder.error")
    both = DiffMaPipeline.from_pretrained(tmp_path / "both")
    for name, weight in both.guided_decoder.named_parameters():
        theirs = (first if name.startswith("error.") else second).guided_decoder.get_parameter(name)
        assert torch.equal(weight, theirs), name
    assert all(map(torch.equal, both.denoiser.parameters(), second.denoiser.parameters()))
    with pytest.raises(
        InputError, match=r"no weight is called eror\.\.\.; they begin with denoiser\. or guided_decoder\."
    ):
        average(tmp_path / "first", expecting_bundle, tmp_path / "none", only="eror")
    assert not (tmp_path / "none").exists()


def test_bundles_of_other_networks_are_not_averaged_and_nothing_is_written(
    expecting_bundle: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="average bundles of"):
        average(tiny_bundle, expecting_bundle, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
