"""Converting with the small decoder: what it is given, what it gives, and that every result says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from DiffMaCore import DiffMaPipeline
from DiffMaCore.cli.main import main
from DiffMaCore.diffusion.conditions import decode, encode
from DiffMaCore.errors import InputError
from DiffMaCore.imaging.inputs import InputItem
from DiffMaCore.inference.convert import ConvertOptions, read_request
from DiffMaCore.progress import Reporter
from Testing.images import head_like_ct

QUICK = ("--steps", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def pipe(tiny_bundle_with_small_decoder: Path) -> DiffMaPipeline:
    return DiffMaPipeline.from_pretrained(tiny_bundle_with_small_decoder)


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ct") / "ct.nii.gz"
    sitk.WriteImage(head_like_ct(), str(path))
    return path


def test_one_taught_on_scaled_latents_gives_the_vaes_images_and_not_of_unscaled_ones() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        scaling_factor=3.0,
    ).eval()
    small = AutoencoderTiny(
        encoder_block_out_channels=(1, 1),
        num_encoder_blocks=(0, 0),
        decoder_block_out_channels=(16, 16),
        num_decoder_blocks=(1, 1),
    )
    with torch.no_grad():
        latents = encode(vae, torch.rand(4, 3, 16, 16) * 2 - 1)
        target = decode(vae, latents)
    optimiser = torch.optim.Adam(small.decoder.parameters(), lr=5e-3)
    for _ in range(400):
        loss = (small.decode(latents).sample.mean(dim=1) - target).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        right, wrong = ((decode(small, given) - target).abs().mean() for given in (latents, latents / 3))
    assert right < 0.4 * (target - target.mean()).abs().mean()
    assert wrong > 2 * right


def test_a_small_decoder_is_given_the_latents_as_they_are_and_lies_in_the_output_range(pipe: DiffMaPipeline) -> None:
    latents = torch.randn(2, *pipe.latent_shape)
    low, high = pipe.bundle.output_range
    made = pipe.decode(latents, "small")
    assert made.shape == (2, 32, 32) and low <= made.min() < made.max() <= high
    with torch.no_grad():
        # TAESD's own convention: latents clamped softly at 3, the image from 0 to 1 mapped to [-1, 1]
        pixels = pipe.small_decoder.decoder.layers(torch.tanh(latents / 3) * 3) * 2 - 1
    assert torch.allclose(made, (pixels.mean(dim=1).clamp(-1, 1) + 1) / 2 * (high - low) + low, atol=1e-2)
    assert not torch.allclose(made, pipe.decode(latents), atol=1.0)
    assert torch.equal(pipe.decode(latents), pipe.decode(latents, "full"))


def test_the_result_says_which_decoder_made_it(pipe: DiffMaPipeline) -> None:
    full, small = (pipe(head_like_ct(), num_inference_steps=2, decoder=name) for name in ("full", "small"))
    assert full.metadata["decoder"] == "full" and small.metadata["decoder"] == "small (approximate)"
    first, second = (sitk.GetArrayFromImage(out.mr) for out in (full, small))
    assert not np.allclose(first, second)
    assert np.array_equal(*(sitk.GetArrayFromImage(out.soft_mask) for out in (full, small)))


def test_the_decoder_is_among_what_decides_a_result(pipe: DiffMaPipeline, ct: Path, tmp_path: Path) -> None:
    requests = [
        read_request(pipe, InputItem(ct, "ct"), tmp_path / "mr.mha", ConvertOptions(decoder=name), Reporter())
        for name in ("full", "small", "small")
    ]
    assert [request.settings["decoder"] for request in requests[:2]] == ["full", "small (approximate)"]
    sums = [request.settings_sha256 for request in requests]
    assert sums[0] != sums[1] == sums[2]


def test_a_bundle_without_one_names_the_command_that_adds_it(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my models" / "tiny"
    shutil.copytree(tiny_bundle, folder)
    pipe = DiffMaPipeline.from_pretrained(folder)
    words = rf'tiny has no small decoder.*`diffma models complete "{folder}" --small-decoder FOLDER`'
    with pytest.raises(InputError, match=words):
        pipe(head_like_ct(), decoder="small")
    with pytest.raises(InputError, match=words):
        pipe.decode(torch.zeros(1, *pipe.latent_shape), "small")
    with pytest.raises(InputError, match="no decoder is called 'tiny'; use full or small"):
        pipe(head_like_ct(), decoder="tiny")


def test_its_layout_on_a_cpu_changes_no_image(pipe: DiffMaPipeline) -> None:
    latents = torch.randn(2, *pipe.latent_shape)
    before = pipe.decode(latents, "small")
    pipe.set_device("cpu")
    weight = pipe.small_decoder.decoder.layers[2].conv[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(pipe.decode(latents, "small"), before, atol=1e-2)  # of 1000


def test_memory_follows_the_choice(pipe: DiffMaPipeline, tiny_bundle: Path) -> None:
    assert pipe.bytes_per_slice() == DiffMaPipeline.from_pretrained(tiny_bundle).bytes_per_slice("full")
    wide = AutoencoderTiny(decoder_block_out_channels=(512,) * 3, num_decoder_blocks=(0,) * 3, **_ENCODER)
    before, pipe.small_decoder = pipe.small_decoder, wide
    assert pipe.bytes_per_slice("small") > pipe.bytes_per_slice("full")
    pipe.small_decoder = before


_ENCODER = {"encoder_block_out_channels": (1,) * 3, "num_encoder_blocks": (0,) * 3}


def test_the_command_takes_it_and_the_file_says_so(
    tiny_bundle: Path,
    tiny_bundle_with_small_decoder: Path,
    ct: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "mr.nrrd"
    command = ["convert", str(ct), str(output), *QUICK, "--decoder", "small", "--model"]
    assert main([*command, str(tiny_bundle)]) == 2
    error = capsys.readouterr().err
    assert "no small decoder" in error and "--small-decoder FOLDER" in error and not output.exists()
    assert main([*command, str(tiny_bundle_with_small_decoder)]) == 0
    assert sitk.ReadImage(str(output)).GetMetaData("decoder") == "small (approximate)"
