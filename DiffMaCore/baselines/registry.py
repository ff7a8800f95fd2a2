"""A model's name of Table 2 in, its network out, at the size that gives it as many true parameters as DiffMa has.

Table 2 gives DiffMa-B 8 layers, DiT 7 and the other Mambas 13; at other sizes the same proportion holds. What is
left of a difference is taken up by what a published block leaves free: its inner width (the Mamba's expansion,
DiT's MLP), and of the U-Nets the channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from DiffMaCore.baselines import BACKBONES
from DiffMaCore.baselines.regression import RegressionUNet
from DiffMaCore.baselines.unet import UNetDenoiser
from DiffMaCore.models.diffma import DiffMa

TITLES = {
    "unet": "LDM (U-Net)",
    "dit": "DiT",
    "efficient_vmamba": "EfficientVMamba",
    "zigma": "ZigMa",
    "vim": "ViM",
    "vmamba": "VMamba",
    "diffma": "DiffMa (ours)",
    "regression": "2.5D regression",
}
"""Every model as tables name it, in the order of the paper's Table 2."""

DIT_LAYERS, MAMBA_LAYERS = 7 / 8, 13 / 8  # for one of DiffMa's
TOLERANCE = 0.01  # of the parameters; 0.02 is promised
GRAINS = (16, 8, 4, 2, 1)


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters; tables that are computed, such as positions, are not."""
    return sum(p.numel() for p in model.parameters())


def build_denoiser(backbone: str, *, learn_sigma: bool = False, **config: Any) -> DiffMa | UNetDenoiser:
    """A new denoiser of one system, matched to DiffMa of these sizes.

    Args:
        backbone: any name of ``TITLES`` but "regression".
        learn_sigma, config: DiffMa's, as :class:`DiffMa` has them.

    Raises:
        ValueError: an unknown backbone, or sizes that do not fit each other.
        TypeError: DiffMa has no such key.
    """
    if backbone != "unet" and backbone not in BACKBONES:
        raise ValueError(f"backbone is {backbone!r}; a denoiser can be one of unet, {', '.join(BACKBONES)}")
    config["learn_sigma"] = learn_sigma
    if backbone == "diffma":
        return DiffMa(**config)
    with torch.device("meta"):
        ours = DiffMa(**config)
    target, sizes = count_parameters(ours), ours.config
    if backbone == "unet":
        pixels = ("pixel_channels", "pixel_factor") if sizes["ct_conditioning"] == "pixels" else ()
        given = {key: sizes[key] for key in ("in_channels", "learn_sigma", "contrasts", *pixels)}
        return _matched_unet(target, sizes["latent_size"], sizes["width"], given)
    layers = max(1, round(sizes["depth"] * (DIT_LAYERS if backbone == "dit" else MAMBA_LAYERS)))
    config |= {"backbone": backbone, "depth": layers}
    return DiffMa(**config, inner=_inner_width(target, config))


def build_regression(in_channels: int, image_size: int, parameters: int) -> RegressionUNet:
    """The 2.5D regression with about ``parameters`` trainable parameters, as near as its channels allow."""

    def size(channels: int, bottom: int | None = None) -> int:
        return _count(lambda: RegressionUNet(in_channels, image_size, channels, bottom))

    channels = _nearest(size, parameters)
    bottom = _nearest(lambda width: size(channels, width), parameters)
    return RegressionUNet(in_channels, image_size, channels, bottom)


def _inner_width(target: int, config: dict[str, Any]) -> int | None:
    """The published inner width (None) where its parameters are right, else the roundest that makes them so."""

    def size(inner: int | None) -> int:
        return _count(lambda: DiffMa(**config, inner=inner))

    if abs(size(None) / target - 1) <= TOLERANCE:
        return None
    exact = _solve(size, target)
    widths = [max(1, round(exact / grain)) * grain for grain in GRAINS]
    return next((width for width in widths if abs(size(width) / target - 1) <= TOLERANCE), widths[-1])


def _matched_unet(target: int, latent_size: int, width: int, given: dict[str, Any]) -> UNetDenoiser:
    """Channels as near as they come, the rest by the width of the timestep's embedding; the smallest models have
    one residual block a level where two would be too many."""

    def make(channels: int, layers: int, time_width: int | None = None) -> UNetDenoiser:
        return UNetDenoiser(latent_size, width, channels, time_width, layers, **given)

    def size(channels: int, layers: int, time_width: int | None = None) -> int:
        return _count(lambda: make(channels, layers, time_width))

    def matched(layers: int) -> tuple[int, int, int]:
        channels = _nearest(lambda c: size(c, layers), target)
        return channels, layers, _nearest(lambda t: size(channels, layers, t), target)

    full = matched(2)
    return make(*full) if abs(size(*full) / target - 1) <= TOLERANCE else make(*matched(1))


def _nearest(size: Callable[[int], int], target: int, grain: int = 4) -> int:
    """The multiple of ``grain`` whose size is nearest to the target."""
    below = max(1, int(_solve(size, target) / grain)) * grain
    return min((below, below + grain), key=lambda width: abs(size(width) - target))


def _solve(size: Callable[[int], int], target: int) -> float:
    """Where the size reaches the target: parameters are a polynomial of second degree in any width."""
    widths = (32, 64, 96)
    square, linear, constant = np.polyfit(widths, [size(width) for width in widths], 2)
    square = square if abs(square) > 1e-6 else 0.0
    return max(np.roots([square, linear, constant - target]).real)


def _count(make: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return count_parameters(make())
