"""Blocks by the name of their system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from DiffMaCore.baselines.dit import DiTBlock
from DiffMaCore.baselines.efficient_vmamba import EfficientVMambaBlock
from DiffMaCore.baselines.vim import VimBlock
from DiffMaCore.baselines.vmamba import VMambaBlock
from DiffMaCore.baselines.zigma import ZigMaBlock
from DiffMaCore.models.block import DiffMaBlock
from DiffMaCore.models.frame import ResidualFrame
from DiffMaCore.models.orders import ScanOrder

Backbone = Literal["diffma", "dit", "vim", "vmamba", "efficient_vmamba", "zigma"]
BACKBONES: tuple[Backbone, ...] = get_args(Backbone)


@dataclass(frozen=True)
class BlockSettings:
    """Size of a block. ``inner`` is its inner width (of DiT: the MLP's); None is what was published: ``expand``
    times the width, of DiT four times. ``scan_order`` is DiffMa's alone."""

    width: int
    grid: int
    state_size: int = 16
    conv_size: int = 4
    expand: int = 2
    inner: int | None = None
    scan_order: ScanOrder = "spiral"


def make_block(backbone: Backbone, settings: BlockSettings, index: int) -> ResidualFrame:
    """Block number ``index`` of a backbone; the number decides the walk of DiffMa and of ZigMa."""
    width, grid, state, taps = settings.width, settings.grid, settings.state_size, settings.conv_size
    inner = settings.inner or settings.expand * width
    if backbone == "diffma":
        return DiffMaBlock(
            width,
            grid,
            index,
            scan_order=settings.scan_order,
            state_size=state,
            conv_size=taps,
            expand=settings.expand,
        )
    if backbone == "dit":
        return DiTBlock(width, hidden=settings.inner)
    if backbone == "vim":
        return VimBlock(width, grid, inner=inner, state_size=state, conv_size=taps)
    if backbone == "vmamba":
        return VMambaBlock(width, grid, inner=inner, state_size=state)
    if backbone == "efficient_vmamba":
        return EfficientVMambaBlock(width, grid, inner=inner, state_size=state)
    return ZigMaBlock(width, grid, index, inner=inner, state_size=state, conv_size=taps)
