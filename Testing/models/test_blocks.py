"""The blocks of all systems: gradients on every scan back end, initialisation, the frame."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from DiffMaCore import DiffMa
from DiffMaCore.baselines import BACKBONES
from DiffMaCore.models.diffma import BLOCKS
from DiffMaCore.models.frame import BlockSettings, ResidualFrame
from DiffMaCore.models.ssm import StackedSSM
from DiffMaCore.ops.scan import available_backends
from DiffMaCore.ops.scan.backends import BACKENDS, Backend
from DiffMaCore.ops.scan.reference import reference_scan
from Testing.conftest import mostly_slow

HERE = [name for name, reason in available_backends("cpu").items() if reason is None]
GRID, WIDTH = 3, 32


@pytest.fixture(autouse=True)
def _reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The yardstick among the back ends: plain operations, differentiated by autograd alone."""
    monkeypatch.setitem(BACKENDS, "reference", Backend(lambda device: None, lambda: reference_scan, frozenset()))


def _block(backbone: str, dtype: torch.dtype = torch.float32) -> ResidualFrame:
    torch.manual_seed(0)
    block = BLOCKS[backbone](BlockSettings(WIDTH, GRID, state_size=4, inner=24 if backbone != "diffma" else None), 3)
    torch.nn.init.normal_(block.adaLN_modulation[1].weight, std=0.2)
    torch.nn.init.normal_(block.adaLN_modulation[1].bias, std=0.2)
    return block.to(dtype)


def _gradients(block: ResidualFrame, backend: str) -> dict[str, Tensor]:
    for module in block.modules():
        if hasattr(module, "backend"):
            module.backend = backend
    dtype = next(block.parameters()).dtype
    generator = torch.Generator().manual_seed(1)
    shapes = {"tokens": (2, GRID * GRID, WIDTH), "condition": (2, 2 * WIDTH), "soft mask": (2, GRID * GRID, 1)}
    inputs = {
        name: torch.randn(shape, generator=generator).to(dtype).requires_grad_() for name, shape in shapes.items()
    }
    pull = torch.randn(shapes["tokens"], generator=generator).to(dtype)
    asked = inputs | dict(block.named_parameters())
    out = block(*inputs.values())
    found = torch.autograd.grad((out * pull).sum(), list(asked.values()), allow_unused=True)
    return {"output": out.detach()} | {
        name: gradient for name, gradient in zip(asked, found, strict=True) if gradient is not None
    }


@pytest.mark.parametrize("backend", [*HERE, "reference"])
@pytest.mark.parametrize("backbone", mostly_slow(BACKBONES, "diffma", "vim"))
def test_gradients_agree_with_float64_autograd_on_every_back_end(backbone: str, backend: str) -> None:
    exact = _gradients(_block(backbone, torch.float64), "reference")
    ours = _gradients(_block(backbone), backend)
    assert ours.keys() == exact.keys()
    unused = {"soft mask"} if backbone != "diffma" else set()
    assert {"tokens", "condition", "soft mask"} - exact.keys() == unused
    for name, gradient in exact.items():
        error = (ours[name].double() - gradient).abs().max() / gradient.abs().max()
        assert error < 1e-4, name


@pytest.mark.parametrize("backbone", BACKBONES)
def test_half_precision_weights_leave_the_recurrence_in_full_precision(backbone: str) -> None:
    block = _block(backbone)
    exact = _gradients(block, "auto")["output"]
    with torch.autocast("cpu", torch.bfloat16):
        half = _gradients(block, "auto")["output"]
    assert (half.float() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_new_block_is_the_identity(backbone: str) -> None:
    model = DiffMa(latent_size=8, patch_size=2, width=32, depth=2, backbone=backbone)
    tokens, mask = torch.randn(2, 16, 32), torch.rand(2, 16, 1)
    for block in model.blocks:
        assert torch.equal(block(tokens, torch.randn(2, 64), mask), tokens)


@pytest.mark.parametrize("backbone", ["vim", "vmamba", "efficient_vmamba", "zigma"])
def test_mambas_own_initialisation_survives_the_frames(backbone: str) -> None:
    model = DiffMa(latent_size=8, patch_size=2, width=32, depth=2, backbone=backbone)
    mambas = [module for module in model.modules() if isinstance(module, StackedSSM)]
    assert len(mambas) == 2
    for mamba in mambas:
        step = F.softplus(mamba.dt_bias)
        assert 0.9e-3 < step.min() < 0.02 < step.max() < 0.11
        states = torch.arange(1, 17.0).expand_as(mamba.A_log)
        torch.testing.assert_close(mamba.A_log.exp(), states)
        assert mamba.dt_weight.abs().max() <= mamba.rank**-0.5
        assert (mamba.D == 1).all()
        # torch's own bound for a linear layer, which Xavier's would pass
        assert mamba.in_proj.weight.abs().max() <= 32**-0.5 and mamba.out_proj.weight.abs().max() <= 64**-0.5


def test_an_unknown_backbone_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'swin'; it can be one of diffma, dit, vim"):
        DiffMa(latent_size=8, patch_size=2, width=32, depth=1, backbone="swin")
