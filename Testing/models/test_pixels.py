"""Networks of the CT's own pixels, of several contrasts, and the decoder that sees the CT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from DiffMaCore.baselines.unet import UNetDenoiser
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.models.guided_decoder import GuidedDecoder
from DiffMaCore.models.layers import PixelEmbedding

CONTRASTS = 3


def test_the_pixels_of_each_patch_go_into_its_own_token() -> None:
    patch, channels = 4, 9
    embedding = PixelEmbedding(patch, channels, channels * patch * patch)
    nn.init.eye_(embedding.proj.weight)
    nn.init.zeros_(embedding.proj.bias)
    pixels = torch.randn(2, channels, 12, 12)
    tokens = embedding(pixels)
    assert tokens.shape == (2, 9, channels * patch * patch)
    for token in range(9):
        row, column = divmod(token, 3)
        own = pixels[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        assert torch.equal(tokens[:, token], own.flatten(1))


def _network(kind: str, contrasts: int = 1) -> DiffMa | UNetDenoiser:
    torch.manual_seed(0)
    size = {"latent_size": 8, "width": 32, "in_channels": 4, "learn_sigma": False, "pixel_channels": 9}
    if kind == "unet":
        network: DiffMa | UNetDenoiser = UNetDenoiser(**size, channels=8, layers=1, contrasts=contrasts)
    else:
        network = DiffMa(**size, patch_size=2, depth=2, ct_conditioning="pixels", contrasts=contrasts)
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():  # modulations and outputs begin with zero
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def _inputs(batch: int = 2) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    tokens = torch.randn(batch, 16, 32), torch.rand(batch, 16, 1)
    return (
        torch.randn(batch, 4, 8, 8),
        torch.tensor([3, 900]),
        torch.randn(batch, 32),
        *tokens,
        torch.randn(batch, 4, 8, 8),
        torch.randn(batch, 9, 32, 32),
    )


@pytest.mark.parametrize("kind", ["diffma", "unet"])
def test_a_network_of_one_contrast_answers_as_that_of_all_does(kind: str) -> None:
    network, inputs = _network(kind, CONTRASTS), _inputs()
    with torch.no_grad():
        answers = []
        for contrast in range(CONTRASTS):
            one = network.for_contrast(contrast)
            assert one.config["contrasts"] == 1 and not one.training
            answers.append(network(*inputs, contrast=torch.tensor([contrast] * 2)).sample)
            torch.testing.assert_close(one(*inputs).sample, answers[-1], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(answers[0], answers[1], atol=1e-3)
    with pytest.raises(ValueError, match="pass contrast"):
        network(*inputs)
    with pytest.raises(ValueError, match="no contrast 3 in a network of 3"):
        network.for_contrast(3)
    with pytest.raises(ValueError, match="no contrast 0 in a network of 1"):
        _network(kind).for_contrast(0)


@pytest.mark.parametrize("kind", ["diffma", "unet"])
def test_every_pixel_counts_and_without_them_it_says_so(kind: str) -> None:
    network, inputs = _network(kind), _inputs()
    pixels = inputs[-1].clone().requires_grad_()
    network(*inputs[:-1], pixels).sample.square().sum().backward()
    assert pixels.grad is not None and (pixels.grad != 0).all()
    with pytest.raises(ValueError, match="pass ct_pixels"):
        network(*inputs[:-1])


def test_the_guided_decoder_learns_what_the_pixels_show_and_the_latent_does_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    decoder = GuidedDecoder(latent_channels=4, pixel_channels=3, channels=(8, 16, 16), blocks=1)
    assert decoder.factor == 4
    latents, pixels = torch.randn(4, 4, 4, 4), torch.rand(4, 3, 16, 16) * 2 - 1
    target = 0.5 * pixels[:, 1] + 0.3 * latents[:, 0].repeat_interleave(4, 1).repeat_interleave(4, 2)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        loss = (decoder(latents, pixels).slices - target).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.25 * losses[0]
    decoder.save_pretrained(tmp_path)
    again = GuidedDecoder.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(latents, pixels).slices, decoder(latents, pixels).slices)
    assert again(latents, pixels).expected_error is None


def test_the_error_that_a_guided_decoder_expects_is_large_where_the_truth_cannot_be_known() -> None:
    torch.manual_seed(0)
    decoder = GuidedDecoder(latent_channels=4, pixel_channels=3, channels=(8, 16, 16), blocks=1, expects_error=True)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=5e-3)
    for _ in range(200):
        latents, pixels = torch.zeros(4, 4, 4, 4), (torch.rand(4, 3, 1, 1) * 2 - 1).repeat(1, 1, 16, 16)
        pixels[:, 0, :, 8:] = 1.0  # here the truth is as likely 0.4 as -0.4
        target = 0.4 * torch.randint(0, 2, (4, 16, 16)).mul(2).sub(1)
        target[:, :, :8] = 0.1
        made = decoder(latents, pixels)
        off = (made.slices.detach() - target).abs()
        loss = ((made.slices - target) ** 2).mean() + ((made.expected_error - off) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        expected = decoder(latents, pixels).expected_error
    assert expected.min() > 0
    assert expected[:, :, 9:].mean() > 0.3 and expected[:, :, :7].mean() < 0.1
