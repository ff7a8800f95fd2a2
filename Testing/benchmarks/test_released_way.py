"""DiffMa computed as the released code does."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import released_way as module
from benchmarks.released_way import ReleasedMamba, released_scan, released_way
from DiffMaCore import DiffMa
from DiffMaCore.baselines.counting import count_model
from DiffMaCore.models import orders
from DiffMaCore.models.diffma import SpiralMamba
from DiffMaCore.ops.dense import Dense
from DiffMaCore.ops.scan.arguments import ScanArguments
from DiffMaCore.ops.scan.reference import reference_scan

DEPTH = 3


def _model(scan_order: str = "spiral") -> DiffMa:
    """A small model, whose modulations and output are not zero as in a new one."""
    torch.manual_seed(0)
    model = DiffMa(latent_size=12, patch_size=2, width=32, depth=DEPTH, scan_order=scan_order).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.adaLN_modulation[1].weight, std=0.2)
    torch.nn.init.normal_(model.final.linear.weight, std=0.2)
    return model


def _evaluate(model: DiffMa, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shapes = ((batch, 4, 12, 12), (batch,), (batch, 32), (batch, 36, 32), (batch, 36, 1))
    with torch.inference_mode():
        return model(*(torch.rand(shape, generator=generator) for shape in shapes)).sample


@pytest.mark.parametrize("scan_order", orders.SCAN_ORDERS)
@pytest.mark.parametrize("batch", [1, 2])
def test_it_gives_what_ours_gives(scan_order: str, batch: int) -> None:
    model = _model(scan_order)
    ours, released = _evaluate(model, batch), _evaluate(released_way(model), batch)
    assert ours.norm() > 1
    assert (released - ours).norm() < 1e-5 * ours.norm()


def test_the_parameters_are_the_same_tensors_and_the_given_model_stays_as_it_is() -> None:
    model = _model()
    released = released_way(model)
    theirs = dict(released.named_parameters())
    assert theirs.keys() == dict(model.named_parameters()).keys()
    assert all(parameter is theirs[name] for name, parameter in model.named_parameters())
    assert sum(type(part) is SpiralMamba for part in model.modules()) == DEPTH
    assert sum(type(part) is ReleasedMamba for part in released.modules()) == DEPTH
    assert not any(isinstance(part, Dense) for part in released.modules())


def test_every_mamba_scans_three_sequences_one_after_the_other_by_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, scans = _model(), []

    def told(arguments: ScanArguments) -> tuple[torch.Tensor, torch.Tensor]:
        scans.append((*arguments.u.shape, arguments.A.shape[1]))
        return reference_scan(arguments)

    monkeypatch.setattr(module, "reference_scan", told)
    _evaluate(released_way(model))
    assert released_scan("cpu")[0] == "reference"
    assert scans == [(1, 64, 36, 16)] * (DEPTH * 2 * 3)
    assert sum(batch * inner * tokens * states for batch, inner, tokens, states in scans) == (
        count_model(model, "small").decays
    )


def test_its_matmuls_are_those_that_are_counted() -> None:
    model = _model()
    counted = count_model(model, "small")
    with FlopCounterMode(display=False) as counter:
        _evaluate(released_way(model))
    by_operation = counter.get_flop_counts()["Global"]
    flops = sum(by_operation.get(getattr(torch.ops.aten, name), 0) for name in ("mm", "addmm", "bmm"))
    patches = model.tokens * model.patches.proj.weight.numel()  # a convolution, counted apart
    assert flops == 2 * (counted.macs_released - counted.macs_scan - patches)


def test_other_blocks_have_no_released_way() -> None:
    with pytest.raises(ValueError, match="this model's are 'dit'"):
        released_way(DiffMa(latent_size=8, patch_size=2, width=32, depth=1, backbone="dit"))
