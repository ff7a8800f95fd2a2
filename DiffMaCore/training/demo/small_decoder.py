"""Stage 6, the small decoder: a diffusers.AutoencoderTiny taught to give what the VAE's decoder gives, in less time.

It takes latents as the denoiser leaves them: ``scaling_factor`` 1, as the published tiny decoders. Its encoder, which
diffusers wants beside it, is as small as it can be and never used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from DiffMaCore.conditions import decode, encode, mr_to_pixels
from DiffMaCore.training.demo.data import Slices, augment_pair, batches
from DiffMaCore.training.demo.loop import Loop, LoopConfig
from DiffMaCore.training.demo.progress import Progress
from DiffMaCore.training.demo.vae import reconstruction_loss


@dataclass(frozen=True)
class SmallDecoderConfig:
    """Its architecture and what it learns from.

    ``channels`` are the same at every level, ``blocks`` those of each level from the latent's size to the slice's;
    ``pairs`` are randomly placed slices of the first ``phantoms`` phantoms, with up to ``noise`` on their latents, as
    a denoiser leaves it. The loss is L1 to the full decoder's output, with ``gradient_weight`` on the differences
    between neighbouring pixels, and ``mr_weight`` times L1 to the phantom's own MR.
    """

    channels: int
    blocks: tuple[int, ...]
    phantoms: int
    pairs: int
    noise: float
    gradient_weight: float
    mr_weight: float
    loop: LoopConfig


@dataclass(frozen=True)
class Pairs:
    """Half precision: latents (N, 4, S', S'), and MRs (N, S, S) as the full decoder gives them and as they are."""

    latents: Tensor
    decoded: Tensor
    mr: Tensor


def build_small_decoder(config: SmallDecoderConfig, latent_channels: int) -> AutoencoderTiny:
    """The decoder, untrained, with an encoder in name only."""
    levels = len(config.blocks)
    return AutoencoderTiny(
        latent_channels=latent_channels,
        encoder_block_out_channels=(1,) * levels,
        num_encoder_blocks=(0,) * levels,
        decoder_block_out_channels=(config.channels,) * levels,
        num_decoder_blocks=tuple(config.blocks),
    )


@torch.inference_mode()
def make_pairs(vae: AutoencoderKL, slices: Slices, config: SmallDecoderConfig, seed: int) -> Pairs:
    """What the full decoder makes of ``config.pairs`` latents."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat(list(batches(len(slices), 16, -(-config.pairs // 16), generator)))[: config.pairs]
    chunks = order.split(16)
    progress = Progress("small decoder's pairs", len(chunks))
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for done, index in enumerate(chunks, start=1):
        _, mr = augment_pair(*slices.pair(index), generator)
        latents = encode(vae, mr_to_pixels(mr))
        noise = config.noise * torch.rand(len(latents), 1, 1, 1, generator=generator)
        latents = latents + noise * torch.randn(latents.shape, generator=generator)
        parts.append((latents.half(), decode(vae, latents).half(), mr.half()))
        progress.update(done)
    return Pairs(*(torch.cat(part) for part in zip(*parts, strict=True)))


def train_small_decoder(vae: AutoencoderKL, slices: Slices, config: SmallDecoderConfig, seed: int) -> AutoencoderTiny:
    """Distil the VAE's decoder; the VAE is left as it is."""
    pairs = make_pairs(vae, slices, config, seed)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    small = build_small_decoder(config, pairs.latents.shape[1]).to(memory_format=torch.channels_last)
    parameters = list(small.decoder.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=config.loop.learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
    loop = Loop("small decoder", config.loop, optimiser)
    order = batches(len(pairs.latents), config.loop.batch_size, config.loop.steps, generator)
    for _, index in zip(loop, order, strict=False):
        latents = pairs.latents[index].float().contiguous(memory_format=torch.channels_last)
        target, mr = (mr_to_pixels(part[index].float()) for part in (pairs.decoded, pairs.mr))
        output = small.decode(latents).sample
        to_mr = (output - mr).abs().mean()
        loss = reconstruction_loss(output, target, config.gradient_weight).mean() + config.mr_weight * to_mr
        with torch.no_grad():
            error = float((output - target).abs().mean())
        loop.update(loss, parameters, full=error, mr=float(to_mr.detach()))
    return small.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
