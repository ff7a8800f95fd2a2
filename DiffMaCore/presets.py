"""A name of Table 1 such as "L/2" in, the sizes of that model out; and those of the networks around the denoiser."""

from __future__ import annotations

from typing import Any

from DiffMaCore.configuring import nearest

DEPTHS = {"S": 4, "B": 8, "L": 16, "XL": 28, "XXL": 56}
PATCH_SIZES = (7, 4, 2)
WIDTH = 512
IMAGE_SIZE = 224
VAE_FACTOR = 8

STABLE_DIFFUSION_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
"""Arguments of diffusers' ``AutoencoderKL``."""

VIT_B_16 = {"image_size": 224, "layers": 12, "width": 768, "head_width": 64, "patch_size": 16}
"""BiomedCLIP's visual tower, as open_clip describes one."""

PRESETS = tuple(f"{size}/{patch}" for size in DEPTHS for patch in PATCH_SIZES)


def preset(name: str, image_size: int = IMAGE_SIZE, **overrides: Any) -> dict[str, Any]:
    """Keyword arguments of :class:`DiffMaCore.DiffMa` for a size of Table 1, such as ``"L/2"``.

    Args:
        name: S, B, L, XL or XXL, a slash, and the patch size 2, 4 or 7.
        image_size: side of the square slice in pixels; the latent has an eighth of it.
        overrides: any argument of ``DiffMa`` to set instead, such as ``scan_order="released"``.

    Raises:
        ValueError: the name is not a configuration, or the sizes do not divide.
    """
    if name not in PRESETS:
        near = nearest(name, PRESETS)
        hint = f"; did you mean {near}?" if near else ""
        raise ValueError(f"no configuration is called {name!r}{hint} (there are {', '.join(PRESETS)})")
    if image_size % VAE_FACTOR:
        raise ValueError(f"an image of {image_size} px cannot be encoded: the VAE needs a multiple of {VAE_FACTOR}")
    size, patch = name.split("/")
    latent_size = image_size // VAE_FACTOR
    check_patch(latent_size, int(patch))
    config = dict(latent_size=latent_size, patch_size=int(patch), width=WIDTH, depth=DEPTHS[size])
    return {**config, **overrides}


def check_patch(latent_size: int, patch_size: int) -> int:
    """Cells a side of the token grid.

    Raises:
        ValueError: the patch does not divide the latent.
    """
    if patch_size < 1 or latent_size < patch_size or latent_size % patch_size:
        divisors = [p for p in range(1, latent_size + 1) if latent_size % p == 0]
        raise ValueError(
            f"a patch of {patch_size} does not divide a latent of {latent_size} x {latent_size}; "
            f"choose a patch size out of {', '.join(map(str, divisors))}, or another image size"
        )
    return latent_size // patch_size


def size_name(width: int, depth: int, patch_size: int) -> str:
    """Name of a configuration for people: "L/2", or "custom 192x6/2" where Table 1 has no such model."""
    for name, known in DEPTHS.items():
        if width == WIDTH and depth == known:
            return f"{name}/{patch_size}"
    return f"custom {width}x{depth}/{patch_size}"
