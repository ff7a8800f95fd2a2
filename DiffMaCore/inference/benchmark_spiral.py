"""The selective scan with what surrounds it in a block: gather, convolution, scan, scatter and gate, by back end.

A scan alone says little about a GPU, where the gathers around it read and write as much memory as the scan.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from DiffMaCore.diffusion.precision import DTYPES, in_precision
from DiffMaCore.errors import InputError
from DiffMaCore.inference.benchmark import result, take_turns, worst_error
from DiffMaCore.models.diffma import BRANCHES, SpiralMamba
from DiffMaCore.ops.scan import available_backends
from DiffMaCore.ops.spiral.order import spiral_scan

FORWARD, BOTH = "spiral", "spiral+backward"
BASE = "torch"


def benchmark_spiral(
    batch: int,
    channels: int,
    tokens: int,
    states: int,
    device: str | torch.device,
    rounds: int,
    progress: Callable[[str], None],
    dtype: str,
) -> list[dict[str, Any]]:
    """Compare the back ends from x and z (2, batch, tokens, channels) in raster order to the gated sum in raster order.

    Three orders of both branches, so that six times as much is scanned as in the plain scan of these sizes. ``ratio``
    is plain torch's time over the method's; the error is against float64 on one sample.

    Raises:
        InputError: the tokens are no square grid, or the channels are odd.
    """
    grid = math.isqrt(tokens)
    if grid * grid != tokens or channels % 2:
        raise InputError(f"{tokens} tokens of {channels} channels: a spiral needs a square grid and even channels")
    torch.manual_seed(0)
    mamba = SpiralMamba(channels // 2, grid, block=1, state_size=states).to(device)
    mamba = in_precision(mamba, dtype)
    given = torch.randn(3, BRANCHES, batch, tokens, channels).to(device, DTYPES[dtype])
    names = [name for name, reason in available_backends(device).items() if reason is None]
    one, results = given[:, :, :1], []
    exact = _Method(copy.deepcopy(mamba).double(), BASE, one.double()).backward()
    for discipline in (FORWARD, BOTH):
        progress(f"{discipline}: {rounds} rounds of {', '.join(names)}")
        backward = discipline == BOTH
        turns = {name: _turn(_Method(mamba, name, given), backward) for name in names}
        seconds = take_turns(turns, rounds, device)
        for name in names:
            error = worst_error(_turn(_Method(mamba, name, one), backward)(), exact)
            results.append(result(discipline, name, seconds, error, BASE))
    return results


class _Method:
    """One back end on x, z and what the output is worth."""

    def __init__(self, mamba: SpiralMamba, backend: str, given: Tensor) -> None:
        self._mamba, self._backend = mamba, backend
        x, z, self._weight = given.unbind()
        self._given = {"x": x.detach().requires_grad_(), "z": z.detach().requires_grad_()}
        outside = ("in_proj", "out_proj")
        self._given |= {name: part for name, part in mamba.named_parameters() if name not in outside}

    def forward(self) -> dict[str, Tensor]:
        self._mamba.backend = self._backend
        with torch.no_grad():
            return {"out": self._out()}

    def backward(self) -> dict[str, Tensor]:
        self._mamba.backend = self._backend
        out = self._out()
        gradients = torch.autograd.grad(out, list(self._given.values()), self._weight)
        return {"out": out.detach(), **dict(zip(self._given, gradients, strict=True))}

    def _out(self) -> Tensor:
        return spiral_scan(self._given["x"], self._given["z"], self._mamba)


def _turn(method: _Method, backward: bool) -> Callable[[], dict[str, Tensor]]:
    return method.backward if backward else method.forward
