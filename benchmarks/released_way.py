"""DiffMa computed as the authors' released code computes it, to be compared with ours.

Each Mamba takes its three sequences one after the other, every one with its own convolution, projections, scan, gate
and out_proj; the two Mambas of a block share nothing, and linear layers are torch's own. The result is the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from DiffMaCore.models.diffma import DiffMa, DiffMaBlock, SpiralMamba
from DiffMaCore.ops.dense import Dense
from DiffMaCore.ops.scan.arguments import ScanArguments
from DiffMaCore.ops.scan.backends import BACKENDS
from DiffMaCore.ops.scan.reference import reference_scan

Scan = Callable[[ScanArguments], tuple[Tensor, Tensor]]


def released_way(model: DiffMa) -> DiffMa:
    """A denoiser that shares the parameters of ``model`` and gives the same, computed the released way.

    Raises:
        ValueError: the blocks of the model are not DiffMa's.
    """
    if model.config["backbone"] != "diffma":
        raise ValueError(f"only DiffMa's blocks have a released way, and this model's are {model.config['backbone']!r}")
    tensors = chain(model.parameters(), model.buffers())
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    theirs: dict[type[nn.Module], type[nn.Module]] = {
        Dense: nn.Linear,
        DiffMaBlock: ReleasedBlock,
        SpiralMamba: ReleasedMamba,
    }
    for module in twin.modules():
        module.__class__ = theirs.get(type(module), type(module))
    return twin


def released_scan(device: str | torch.device) -> tuple[str, Scan]:
    """Name and function of the scan on a device: "mamba-ssm" where it runs, else "reference", which keeps a
    (B, D, L, N) tensor."""
    if torch.device(device).type == "cuda" and BACKENDS["mamba-ssm"].reason("cuda") is None:
        return "mamba-ssm", BACKENDS["mamba-ssm"].load()
    return "reference", reference_scan


class ReleasedBlock(DiffMaBlock):
    """A block in plain operations, whatever faster way :class:`DiffMaBlock` has."""

    def forward(self, x: Tensor, condition: Tensor, soft_mask: Tensor) -> Tensor:
        """As :meth:`DiffMaBlock.forward` is written."""
        plain: Any = DiffMaBlock.forward
        return plain.__wrapped__(self, x, condition, soft_mask)


class ReleasedMamba(SpiralMamba):
    """Both Mambas of a block, one after the other; parameters and results are those of :class:`SpiralMamba`."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of both branches (2, B, L, D), raster order, to their outputs (2, B, L, D)."""
        return torch.stack([self._mamba(branch, part) for branch, part in enumerate(tokens)])

    def _mamba(self, branch: int, tokens: Tensor) -> Tensor:
        # channels before tokens, as Mamba's own code lays them out
        xz = F.linear(tokens, self.in_proj[branch]).transpose(1, 2)
        A = -torch.exp(self.A_log[branch].float())
        total = torch.zeros_like(tokens)
        for order, position in zip(self.order, self.position, strict=True):
            total = total + self._sequence(branch, xz[:, :, order], A)[:, position]
        return total

    def _sequence(self, branch: int, xz: Tensor, A: Tensor) -> Tensor:
        """A sequence (B, 2E, L) after in_proj, in scan order, to (B, L, D)."""
        x, z = xz.chunk(2, dim=1)
        weight, length = self.conv_weight[branch][:, None], x.shape[2]
        taps = weight.shape[2]
        x = F.silu(F.conv1d(x, weight, self.conv_bias[branch], padding=taps - 1, groups=self.inner)[..., :length])
        row = F.linear(x.transpose(1, 2), self.x_proj[branch])
        step, b, c = row.split([self.rank, self.state_size, self.state_size], dim=2)
        delta = F.linear(step, self.dt_weight[branch]).transpose(1, 2)
        D, bias = self.D[branch].float(), self.dt_bias[branch].float()
        given = ScanArguments(x, delta, A, b.transpose(1, 2), c.transpose(1, 2), D, z, bias, True)
        _, scan = released_scan(x.device)
        return F.linear(scan(given)[0].transpose(1, 2), self.out_proj[branch])
