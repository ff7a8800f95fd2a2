"""Stage 4, the denoiser: noise and its variance on MR latents, given everything known of the CT slice.

Loss: mean squared error of epsilon (paper, Eq. 9) weighted by min((1 + SNR) / SNR, ``max_weight``) so that the
steep end of the noise schedule, where only the CT tells what to draw, counts as well; or of v (Salimans and Ho
2022), unweighted, which learns that end many times faster. Plus ``vlb_weight`` times the variational bound for
the learned variance alone (Nichol and Dhariwal 2021, Eq. 16). A share ``focus`` of each batch draws its
timesteps from ``focus_range`` alone, the rest from all.
The embedder, pre-trained by InfoNCE, goes on learning with the denoiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from DiffMaCore.conditions import Window, encode, encoder_pixels, hu_to_pixels, mr_to_pixels
from DiffMaCore.models.denoiser import DiffMa
from DiffMaCore.models.embedder import VisionEmbedder
from DiffMaCore.models.image_encoder import ImageEncoder
from DiffMaCore.schedulers import TRAIN_TIMESTEPS
from DiffMaCore.training.demo.data import Slices, augment_pair, batches
from DiffMaCore.training.demo.loop import Ema, Loop, LoopConfig, save_atomically
from DiffMaCore.training.demo.progress import Progress
from DiffMaCore.training.objective import PredictionType, add_noise, diffusion_loss, implied, schedule, spread_timesteps


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
    prediction_type: PredictionType = "epsilon"
    focus: float = 0.0
    focus_range: tuple[int, int] = (100, 650)
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


def draw_timesteps(batch: int, config: DenoiserConfig, generator: torch.Generator) -> Tensor:
    """Timesteps (B,): the focused share first, each share one draw in every equal stratum of its range."""
    focused = round(config.focus * batch)
    parts = []
    for count, (low, high) in ((focused, config.focus_range), (batch - focused, (0, TRAIN_TIMESTEPS))):
        place = (torch.arange(count) + torch.rand(count, generator=generator)) / max(count, 1)
        parts.append(spread_timesteps(place, low, high))
    return torch.cat(parts)


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
) -> tuple[DiffMa, VisionEmbedder]:
    """Train both from scratch or from ``checkpoint``; returns them with their averaged (EMA) weights."""
    torch.manual_seed(seed)
    both = nn.ModuleDict({"denoiser": build_denoiser(config, latents.mr.shape[-1]), "embedder": embedder})
    both.requires_grad_(True).train()
    parameters = list(both.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=config.loop.learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
    loop = Loop("denoiser", config.loop, optimiser)
    ema = Ema(both, config.ema)
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        both.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        loop.load_state_dict(state["loop"])
        ema.load_state_dict(state["ema"])
    alphas = schedule()
    generator = torch.Generator().manual_seed(seed + loop.step)
    recent: dict[str, float] = {}
    order = batches(len(latents.mr), config.loop.batch_size, config.loop.steps, generator)
    for step, index in zip(loop, order, strict=False):
        loss, figures = _loss(both, latents, index, alphas, config, generator)
        recent = {k: 0.95 * recent.get(k, v) + 0.05 * v for k, v in figures.items()}
        loop.update(loss, parameters, **recent)
        ema.update(both)
        if step % config.checkpoint_every == config.checkpoint_every - 1:
            save_atomically(_state(both, optimiser, loop, ema), checkpoint)
    save_atomically(_state(both, optimiser, loop, ema), checkpoint)
    both.load_state_dict(ema.shadow)
    both.eval().requires_grad_(False)
    return both["denoiser"], both["embedder"]  # type: ignore[return-value]


def _state(both: nn.ModuleDict, optimiser: torch.optim.Optimizer, loop: Loop, ema: Ema) -> dict[str, Any]:
    return {
        "model": both.state_dict(),
        "optimiser": optimiser.state_dict(),
        "loop": loop.state_dict(),
        "ema": ema.state_dict(),
    }


def _loss(
    both: nn.ModuleDict,
    latents: Latents,
    index: Tensor,
    alphas: Tensor,
    config: DenoiserConfig,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    x0, ct, clip = (part[index].float() for part in (latents.mr, latents.ct, latents.clip_embedding))
    t = draw_timesteps(len(index), config, generator)
    noise = torch.randn(x0.shape, generator=generator)
    xt = add_noise(x0, noise, t, alphas)
    soft_mask, ct_embedding = both["embedder"](ct)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = both["denoiser"](xt, t, clip, ct_embedding, soft_mask).sample
    kind = config.prediction_type
    parts = (x0, noise, t, alphas, kind, config.vlb_weight, config.max_weight)
    loss, detail = diffusion_loss(prediction, *parts)
    figures = {name: float(value) for name, value in detail.items()}
    # mean squared error of the clean latent by noise: 1 is no better than knowing nothing
    with torch.no_grad():
        output = prediction.float()[:, : x0.shape[1]]
        _, clean = implied(output, xt, t, alphas, kind)
        missed = ((clean - x0) ** 2).mean(dim=(1, 2, 3))
        for name, low, high in (("x0_mid", 300, 600), ("x0_high", 600, TRAIN_TIMESTEPS)):
            chosen = (t >= low) & (t < high)
            if chosen.any():
                figures[name] = float(missed[chosen].mean())
    return loss, figures
