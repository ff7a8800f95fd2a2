"""The models that Table 2 compares DiffMa with, in its frame, and how their parameters are matched.

Importing this package enters their blocks into the registry of backbones.
"""

from __future__ import annotations

from DiffMaCore.baselines.dit import DiTBlock
from DiffMaCore.baselines.efficient_vmamba import EfficientVMambaBlock
from DiffMaCore.baselines.vim import VimBlock
from DiffMaCore.baselines.vmamba import VMambaBlock
from DiffMaCore.baselines.zigma import ZigMaBlock
from DiffMaCore.models.diffma import BLOCKS

BLOCKS.update(
    dit=lambda size, block: DiTBlock(size.width, hidden=size.inner),
    vim=lambda size, block: VimBlock(
        size.width, size.grid, inner=size.channels, state_size=size.state_size, conv_size=size.conv_size
    ),
    vmamba=lambda size, block: VMambaBlock(size.width, size.grid, inner=size.channels, state_size=size.state_size),
    efficient_vmamba=lambda size, block: EfficientVMambaBlock(
        size.width, size.grid, inner=size.channels, state_size=size.state_size
    ),
    zigma=lambda size, block: ZigMaBlock(
        size.width, size.grid, block, inner=size.channels, state_size=size.state_size, conv_size=size.conv_size
    ),
)
BACKBONES = tuple(BLOCKS)
