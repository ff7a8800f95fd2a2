"""Stage 4, the denoiser: epsilon and its variance on MR latents, given everything known of the CT slice.

Loss: mean squared error of epsilon, weighted by min((1 + SNR) / SNR, ``max_weight``) so that the steep end
of the noise schedule, where only the CT tells what to draw, counts as well; plus ``vlb_weight`` times the
variational bound for the learned variance alone (Nichol and Dhariwal 2021, Eq. 16).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from DiffMaCore.conditions import Window, encode, encoder_pixels, hu_to_pixels, mr_to_pixels
from DiffMaCore.models.denoiser import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.schedulers import TRAIN_TIMESTEPS, make_scheduler
from DiffMaCore.training.data import Slices, augment_pair, batches
from DiffMaCore.training.loop import Ema, Loop, LoopConfig, save_atomically
from DiffMaCore.training.progress import Progress


@dataclass(frozen=True)
class DenoiserConfig:
    """The denoiser's size and its training."""

    width: int
    depth: int
    patch_size: int
    state_size: int
    loop: LoopConfig
    expand: int = 2
    ct_conditioning: str = "tokens"
    ema: float = 0.9995
    max_weight: float = 10.0
    vlb_weight: float = 1e-3
    pairs: int = 8000  # randomly placed pairs of slices in the cache
    checkpoint_every: int = 100  # steps


@dataclass(frozen=True)
class Latents:
    """What the denoiser trains on: latents of paired slices (N, 4, S, S) and image-encoder embeddings (N, D)."""

    mr: Tensor
    ct: Tensor
    clip_embedding: Tensor


@torch.inference_mode()
def make_latents(
    slices: Slices,
    windows: Sequence[Window],
    vae: AutoencoderKL,
    image_encoder: ImageEncoder,
    pairs: int,
    seed: int,
    cache: Path,
) -> Latents:
    """Encode ``pairs`` slices, randomly placed, each as often as the next; kept in ``cache``, half precision."""
    if not cache.is_file():
        generator = torch.Generator().manual_seed(seed)
        order = torch.cat(list(batches(len(slices), 32, -(-pairs // 32), generator)))[:pairs]
        chunks = order.split(32)
        progress = Progress("latents", len(chunks))
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for done, index in enumerate(chunks, start=1):
            ct, mr = augment_pair(*slices.pair(index), generator)
            pixels = hu_to_pixels(ct, windows)
            with torch.autocast("cpu", torch.bfloat16):
                both = encode(vae, torch.cat([pixels, mr_to_pixels(mr)]))
            clip = image_encoder(encoder_pixels(pixels, image_encoder.image_size))
            parts.append((both[len(ct) :].half(), both[: len(ct)].half(), clip.half()))
            progress.update(done)
        mr_latents, ct_latents, clips = (torch.cat(part) for part in zip(*parts, strict=True))
        save_atomically({"mr": mr_latents, "ct": ct_latents, "clip_embedding": clips}, cache)
    return Latents(**torch.load(cache, weights_only=True))


def schedule() -> Tensor:
    """Cumulative alpha of every training timestep (1000,), the schedulers' own."""
    return make_scheduler("ddpm").alphas_cumprod


def loss_weight(alphas: Tensor, t: Tensor, max_weight: float) -> Tensor:
    """min((1 + SNR) / SNR, max_weight) of timesteps (B,)."""
    return (1.0 / alphas[t]).clamp(max=max_weight) if max_weight > 1 else torch.ones(len(t))


def variance_loss(epsilon: Tensor, v: Tensor, x0: Tensor, xt: Tensor, t: Tensor, alphas: Tensor) -> Tensor:
    """Variational bound in nats a dimension (B,), with the mean held fixed so that only ``v`` learns from it.

    Args:
        epsilon, v: the prediction's two halves (B, 4, S, S); ``v`` in [-1, 1] goes from the smallest to the
            largest admissible log variance.
        x0, xt: clean and noisy latents.
        t: timesteps (B,).
        alphas: cumulative alphas.
    """
    shape = (-1, 1, 1, 1)
    previous_all = torch.cat([alphas.new_ones(1), alphas[:-1]])
    betas = 1 - alphas / previous_all
    at, before, beta = (a[t].view(shape) for a in (alphas, previous_all, betas))
    smallest_all = betas * (1 - previous_all) / (1 - alphas)
    smallest_all = torch.cat([smallest_all[1:2], smallest_all[1:]])
    low, high = smallest_all[t].view(shape).log(), beta.log()
    c0 = before.sqrt() * beta / (1 - at)
    guess = (xt - (1 - at).sqrt() * epsilon.detach()) / at.sqrt()
    share = (v + 1) / 2
    log_variance = share * high + (1 - share) * low
    gap = c0 * (x0 - guess)
    bound = 0.5 * (log_variance - low + (low - log_variance).exp() - 1 + gap**2 * (-log_variance).exp())
    return bound.mean(dim=(1, 2, 3))


def build_denoiser(config: DenoiserConfig, latent_size: int, scan_order: str = "spiral") -> DiffMa:
    """The denoiser of a bundle, ready to train."""
    return DiffMa(
        latent_size=latent_size,
        patch_size=config.patch_size,
        width=config.width,
        depth=config.depth,
        state_size=config.state_size,
        expand=config.expand,
        scan_order=scan_order,  # type: ignore[arg-type]
        ct_conditioning=config.ct_conditioning,  # type: ignore[arg-type]
    )


def train_denoiser(
    latents: Latents, embedder: VisionEmbedder, config: DenoiserConfig, seed: int, checkpoint: Path
) -> DiffMa:
    """Train from scratch or from ``checkpoint``; returns the denoiser with its averaged (EMA) weights."""
    torch.manual_seed(seed)
    denoiser = build_denoiser(config, latents.mr.shape[-1])
    parameters = list(denoiser.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=config.loop.learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
    loop = Loop("denoiser", config.loop, optimiser)
    ema = Ema(denoiser, config.ema)
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        denoiser.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        loop.load_state_dict(state["loop"])
        ema.load_state_dict(state["ema"])
    alphas = schedule()
    generator = torch.Generator().manual_seed(seed + loop.step)
    recent: dict[str, float] = {}
    order = batches(len(latents.mr), config.loop.batch_size, config.loop.steps, generator)
    for step, index in zip(loop, order, strict=False):
        loss, figures = _loss(denoiser, embedder, latents, index, alphas, config, generator)
        recent = {k: 0.95 * recent.get(k, v) + 0.05 * v for k, v in figures.items()}
        loop.update(loss, parameters, **recent)
        ema.update(denoiser)
        if step % config.checkpoint_every == config.checkpoint_every - 1:
            save_atomically(_state(denoiser, optimiser, loop, ema), checkpoint)
    save_atomically(_state(denoiser, optimiser, loop, ema), checkpoint)
    denoiser.load_state_dict(ema.shadow)
    return denoiser.eval().requires_grad_(False)


def _state(denoiser: DiffMa, optimiser: torch.optim.Optimizer, loop: Loop, ema: Ema) -> dict[str, Any]:
    return {
        "model": denoiser.state_dict(),
        "optimiser": optimiser.state_dict(),
        "loop": loop.state_dict(),
        "ema": ema.state_dict(),
    }


def _loss(
    denoiser: DiffMa,
    embedder: VisionEmbedder,
    latents: Latents,
    index: Tensor,
    alphas: Tensor,
    config: DenoiserConfig,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    x0, ct, clip = (part[index].float() for part in (latents.mr, latents.ct, latents.clip_embedding))
    with torch.no_grad():
        soft_mask, ct_embedding = embedder(ct)
    batch = len(index)
    # one timestep in each of B equal strata: the same distribution, with less noise in the gradient
    t = ((torch.arange(batch) + torch.rand(batch, generator=generator)) * TRAIN_TIMESTEPS / batch).long()
    t = t.clamp(max=TRAIN_TIMESTEPS - 1)
    noise = torch.randn(x0.shape, generator=generator)
    at = alphas[t].view(-1, 1, 1, 1)
    xt = at.sqrt() * x0 + (1 - at).sqrt() * noise
    with torch.autocast("cpu", torch.bfloat16):
        prediction = denoiser(xt, t, clip, ct_embedding, soft_mask).sample
    epsilon, v = prediction.float().chunk(2, dim=1)
    error = ((epsilon - noise) ** 2).mean(dim=(1, 2, 3))
    bound = variance_loss(epsilon, v, x0, xt, t, alphas)
    weight = loss_weight(alphas, t, config.max_weight)
    loss = (weight * error).mean() / weight.mean() + config.vlb_weight * TRAIN_TIMESTEPS * bound.mean()
    # error of the clean latent implied at three levels of noise: 1 is no better than knowing nothing
    with torch.no_grad():
        implied = error * (1 - alphas[t]) / alphas[t]
    third = batch // 3
    figures = {"mse": float(error.detach().mean()), "bound": float(bound.detach().mean())}
    if third:
        figures |= {"x0_low": float(implied[:third].mean()), "x0_mid": float(implied[third : 2 * third].mean())}
    return loss, figures
