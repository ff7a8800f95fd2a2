"""A configuration in; parameters, multiply-adds and exponentials out, and Table 1 of the paper by its own rule.

Table 1 was made with a counter that hooks modules, and everything inside a Mamba is computed outside of its
modules: the table leaves out all of it. It also swaps the rows XXL/2 and XXL/4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from DiffMaCore.models.diffma import BRANCHES, DiffMa, SpiralMamba
from DiffMaCore.presets import IMAGE_SIZE, PRESETS, preset

TABLE_1: dict[str, tuple[float, float]] = {
    "S/7": (10.16, 0.05),
    "S/4": (9.95, 0.17),
    "S/2": (9.88, 0.43),
    "B/7": (18.57, 0.09),
    "B/4": (18.37, 0.28),
    "B/2": (18.29, 0.85),
    "L/7": (35.39, 0.17),
    "L/4": (35.19, 0.45),
    "L/2": (35.11, 1.70),
    "XL/7": (60.61, 0.29),
    "XL/4": (60.42, 0.78),
    "XL/2": (60.35, 2.96),
    "XXL/7": (119.50, 0.57),
    "XXL/4": (119.22, 1.55),
    "XXL/2": (119.30, 5.92),
}
"""The paper's Table 1: parameters in millions and "FLOPs" in G, as printed."""

DIRECTIONS = 3


@dataclass(frozen=True)
class Count:
    """Counts of one configuration; parameters are trainable ones, MACs are for one slice and one step.

    ``macs_released`` is what the released code executes (out_proj once a direction), ``macs`` what ours does
    (the directions summed before out_proj, the gate once): ``macs_matmul`` by products with weights, and ``macs_scan``
    by the scan and the convolution before it. ``decays`` are the exponentials of the scan, exp(delta A), one a token,
    channel and state of each direction and branch; ``activations`` those of the Mambas' SiLU and softplus, one each.
    """

    name: str
    tokens: int
    parameters: int
    parameters_without_mamba: int
    macs: int
    macs_matmul: int
    macs_scan: int
    macs_released: int
    macs_without_mamba: int
    decays: int
    activations: int
    table_parameters: float | None = None
    table_flops: float | None = None


def count(name: str, image_size: int = IMAGE_SIZE) -> Count:
    """Counts of a configuration of Table 1, at any image size (the table's numbers are of 224 px)."""
    config = preset(name, image_size)
    with torch.device("meta"):
        model = DiffMa(**config)
    table = TABLE_1[name] if image_size == IMAGE_SIZE else (None, None)
    return count_model(model, name, *table)


def count_all(image_size: int = IMAGE_SIZE) -> list[Count]:
    """Counts of the configurations of Table 1, without those whose patch does not divide the latent."""
    latent = image_size // 8
    return [count(name, image_size) for name in PRESETS if latent % int(name.split("/")[1]) == 0]


def count_model(
    model: DiffMa, name: str, table_parameters: float | None = None, table_flops: float | None = None
) -> Count:
    """Counts of a denoiser of DiffMa's blocks, or DiT's; the other backbones' scans are not counted."""
    total = sum(p.numel() for p in model.parameters())
    mambas = [module for module in model.modules() if isinstance(module, SpiralMamba)]
    inside = sum(p.numel() for mamba in mambas for p in mamba.parameters())
    matmul = sum(product.macs for product in matmuls(model))
    scan = sum(_scan_macs(mamba, model.tokens) for mamba in mambas)
    saved = (DIRECTIONS - 1) * model.tokens * sum(mamba.out_proj.numel() for mamba in mambas)
    elements = BRANCHES * model.tokens * sum(mamba.inner for mamba in mambas)  # of one direction
    return Count(
        name=name,
        tokens=model.tokens,
        parameters=total,
        parameters_without_mamba=total - inside,
        macs=matmul + scan,
        macs_matmul=matmul,
        macs_scan=scan,
        macs_released=matmul + scan + saved,
        macs_without_mamba=sum(layer.macs for layer in _layers_without_mamba(model)),
        decays=DIRECTIONS * BRANCHES * model.tokens * sum(mamba.inner * mamba.state_size for mamba in mambas),
        activations=(2 * DIRECTIONS + 1) * elements,  # convolution and step of each direction, and the gate
        table_parameters=table_parameters,
        table_flops=table_flops,
    )


class Matmul(NamedTuple):
    """A product with a weight (N, K) in one evaluation of one slice, of as many rows (R, K)."""

    name: str
    rows: int
    weight: Tensor

    @property
    def macs(self) -> int:
        return self.rows * self.weight.numel()


def matmuls(model: DiffMa) -> list[Matmul]:
    """Every product with a weight in one evaluation of one slice; names are those of the parameters."""
    inside = [
        product
        for name, mamba in model.named_modules()
        if isinstance(mamba, SpiralMamba)
        for product in _projections(name, mamba, model.tokens)
    ]
    return _layers_without_mamba(model) + inside


def _layers_without_mamba(model: DiffMa) -> list[Matmul]:
    """Every Linear and Conv layer: once a token where it works on tokens, else once a slice."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            once_a_slice = "adaLN_modulation" in name or name.startswith("timestep")
            rows = 1 if once_a_slice else model.tokens
            found.append(Matmul(f"{name}.weight", rows, module.weight.flatten(1)))
    return found


def _projections(name: str, mamba: SpiralMamba, tokens: int) -> list[Matmul]:
    """Of both branches: in_proj, the weights of each direction's scan, and out_proj after their sum."""
    rows = {"in_proj": tokens, "x_proj": DIRECTIONS * tokens, "dt_weight": DIRECTIONS * tokens, "out_proj": tokens}
    return [
        Matmul(f"{name}.{layer}", count, weight)
        for layer, count in rows.items()
        for weight in getattr(mamba, layer).unbind()
    ]


def _scan_macs(mamba: SpiralMamba, tokens: int) -> int:
    """Both branches and all directions: the scan at 9 L D N FLOPs plus its skip D u, and the convolution."""
    inner, state = mamba.inner, mamba.state_size
    scan = 9 * inner * state // 2 + inner
    return BRANCHES * DIRECTIONS * tokens * (scan + mamba.conv_weight[0].numel())
