"""Stage 1, the VAE: a small diffusers.AutoencoderKL for CT (three HU windows) and MR slices alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from DiffMaCore.conditions import Window, encode, hu_to_pixels, mr_to_pixels
from DiffMaCore.training.demo.data import Slices, augment_pair, batches
from DiffMaCore.training.demo.loop import Loop, LoopConfig, save_atomically


@dataclass(frozen=True)
class VaeConfig:
    """Architecture and loss of the VAE; ``crop`` pixels a side train it until ``full_from`` of the stage."""

    block_out_channels: tuple[int, ...]
    layers_per_block: int
    norm_groups: int
    crop: int
    full_from: float
    kl_weight: float
    gradient_weight: float
    ct_weight: float
    loop: LoopConfig
    latent_channels: int = 4
    checkpoint_every: int = 100  # steps


@dataclass(frozen=True)
class RefineConfig:
    """A last stage for the decoder alone, on MRs, with ``noise`` on the latents as a denoiser leaves it."""

    loop: LoopConfig
    noise: float
    gradient_weight: float


def build_vae(config: VaeConfig, image_size: int) -> AutoencoderKL:
    """A convolutional VAE without attention; its factor is 2 to the number of levels less one."""
    levels = len(config.block_out_channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(config.block_out_channels),
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_groups,
        sample_size=image_size,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def _crop(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    side = images.shape[-1]
    if size >= side:
        return images
    top, left = (int(torch.randint(side - size + 1, (1,), generator=generator)) for _ in range(2))
    return images[..., top : top + size, left : left + size]


def _gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    return images[..., 1:, :] - images[..., :-1, :], images[..., 1:] - images[..., :-1]


def reconstruction_loss(output: Tensor, target: Tensor, gradient_weight: float) -> Tensor:
    """L1 of values and of their differences between neighbouring pixels, one figure a sample (B,)."""
    loss = (output - target).abs().mean(dim=(1, 2, 3))
    for a, b in zip(_gradients(output), _gradients(target), strict=True):
        loss = loss + gradient_weight * (a - b).abs().mean(dim=(1, 2, 3))
    return loss


def train_vae(
    slices: Slices, windows: Sequence[Window], config: VaeConfig, seed: int, checkpoint: Path
) -> AutoencoderKL:
    """Train from scratch or from ``checkpoint``; the scaling factor gives latents unit variance."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    vae = build_vae(config, slices.ct.shape[-1]).to(memory_format=torch.channels_last)
    parameters = list(vae.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=config.loop.learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
    loop = Loop("vae", config.loop, optimiser)
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        vae.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        loop.load_state_dict(state["loop"])
    order = batches(len(slices), config.loop.batch_size // 2, config.loop.steps, generator)
    for step, index in zip(loop, order, strict=False):
        full = loop.fraction >= config.full_from
        # as much work a step with full slices as with crops
        index = index[: max(2, len(index) * config.crop**2 // slices.ct.shape[-1] ** 2)] if full else index
        ct, mr = augment_pair(*slices.pair(index), generator)
        pixels = torch.cat([hu_to_pixels(ct, windows), mr_to_pixels(mr)])
        pixels = _crop(pixels, pixels.shape[-1] if full else config.crop, generator)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            output = vae.decode(posterior.sample()).sample
        rebuilt = reconstruction_loss(output.float(), pixels, config.gradient_weight)
        weight = torch.ones_like(rebuilt)
        weight[: len(ct)] = config.ct_weight
        mean, variance = posterior.mean.float(), posterior.var.float()
        divergence = 0.5 * (mean**2 + variance - 1 - variance.log()).mean()
        loss = (weight * rebuilt).mean() + config.kl_weight * divergence
        with torch.no_grad():
            ct_error, mr_error = (output - pixels).abs().mean(dim=(1, 2, 3)).split(len(ct))
        figures = {"ct": float(ct_error.mean()), "mr": float(mr_error.mean()), "kl": float(divergence.detach())}
        loop.update(loss, parameters, **figures)
        if step % config.checkpoint_every == config.checkpoint_every - 1:
            save_atomically(
                {"model": vae.state_dict(), "optimiser": optimiser.state_dict(), "loop": loop.state_dict()}, checkpoint
            )
    vae = vae.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    vae.register_to_config(scaling_factor=_scaling_factor(vae, slices, windows, generator))
    return vae


@torch.inference_mode()
def _scaling_factor(vae: AutoencoderKL, slices: Slices, windows: Sequence[Window], generator: torch.Generator) -> float:
    """1 / standard deviation of MR latents, those that are noised; read off a sample of slices."""
    index = torch.randperm(len(slices), generator=generator)[:128]
    _, mr = slices.pair(index)
    latents = torch.cat([vae.encode(mr_to_pixels(part)).latent_dist.mode() for part in mr.split(16)])
    return float(1.0 / latents.std())


def refine_decoder(vae: AutoencoderKL, slices: Slices, config: RefineConfig, seed: int) -> AutoencoderKL:
    """Train the decoder on MRs with the encoder, and so all latents, left as they are (changes ``vae``).

    Only MRs are ever decoded, so what the decoder knew of CTs may go.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    trained = (vae.decoder, vae.post_quant_conv)
    for module in trained:
        module.requires_grad_(True).train().to(memory_format=torch.channels_last)
    parameters = [p for module in trained for p in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.loop.learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
    loop = Loop("decoder", config.loop, optimiser)
    order = batches(len(slices), config.loop.batch_size, config.loop.steps, generator)
    for _, index in zip(loop, order, strict=False):
        _, mr = augment_pair(*slices.pair(index), generator)
        pixels = mr_to_pixels(mr)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = encode(vae, pixels).float()
                noise = config.noise * torch.rand(len(latents), 1, 1, 1, generator=generator)
                latents = latents + noise * torch.randn(latents.shape, generator=generator)
            output = vae.decode(latents / vae.config["scaling_factor"]).sample.float()
        loss = reconstruction_loss(output, pixels, config.gradient_weight).mean()
        with torch.no_grad():
            error = float((output - pixels).abs().mean())
        loop.update(loss, parameters, mr=error)
    return vae.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
