"""Counts, and Table 1 reproduced."""

from __future__ import annotations

import pytest
import torch

from DiffMaCore.baselines.counting import TABLE_1, count, count_all, count_model
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.presets import PRESETS

# counted on the released code: parameters without the Mambas (M), all trainable ones (M), MACs without the
# Mambas and as the released code executes them (G)
COUNTED = {
    "S/7": (10.157, 23.715, 0.046, 0.450),
    "S/4": (9.954, 23.512, 0.115, 1.351),
    "S/2": (9.880, 23.438, 0.424, 5.368),
    "B/7": (18.568, 45.684, 0.086, 0.893),
    "B/4": (18.365, 45.481, 0.225, 2.696),
    "B/2": (18.291, 45.407, 0.842, 10.729),
    "L/7": (35.390, 89.621, 0.166, 1.780),
    "L/4": (35.187, 89.418, 0.443, 5.387),
    "L/2": (35.114, 89.345, 1.677, 21.452),
    "XL/7": (60.624, 155.528, 0.285, 3.110),
    "XL/4": (60.421, 155.325, 0.770, 9.422),
    "XL/2": (60.347, 155.251, 2.930, 37.537),
    "XXL/7": (119.502, 309.310, 0.565, 6.215),
    "XXL/4": (119.299, 309.107, 1.534, 18.837),
    "XXL/2": (119.225, 309.034, 5.855, 75.067),
}


@pytest.mark.parametrize("name", PRESETS)
def test_every_count_is_the_released_codes(name: str) -> None:
    ours = count(name)
    without, true, macs_without, macs = COUNTED[name]
    assert ours.parameters_without_mamba / 1e6 == pytest.approx(without, abs=6e-4)
    assert ours.parameters / 1e6 == pytest.approx(true, abs=6e-4)
    assert ours.macs_without_mamba / 1e9 == pytest.approx(macs_without, abs=6e-4)
    assert ours.macs_released / 1e9 == pytest.approx(macs, abs=6e-4)


def test_table_1_is_its_own_rule_with_two_rows_swapped() -> None:
    by_rule = {c.name: c.parameters_without_mamba / 1e6 for c in count_all()}
    by_rule["XXL/2"], by_rule["XXL/4"] = by_rule["XXL/4"], by_rule["XXL/2"]
    for name, (parameters, _) in TABLE_1.items():
        assert by_rule[name] == pytest.approx(parameters, abs=0.015)


def test_summing_before_the_projection_saves_31_percent_of_b2() -> None:
    b2 = count("B/2")
    assert 1 - b2.macs / b2.macs_released == pytest.approx(0.31, abs=0.005)


def test_macs_outside_the_mambas_are_those_that_run() -> None:
    model = DiffMa(latent_size=8, patch_size=2, width=32, depth=3)
    model.set_scan_backend("torch")  # the fused blocks call no layers
    executed = 0

    def add(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal executed
        places = output.numel() // module.weight.shape[0]
        executed += places * module.weight.numel()

    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.register_forward_hook(add)
    tokens = model.tokens
    model(
        torch.randn(1, 4, 8, 8),
        torch.zeros(1),
        torch.randn(1, 32),
        torch.randn(1, tokens, 32),
        torch.rand(1, tokens, 1),
    )
    assert executed == count_model(model, "small").macs_without_mamba


def test_sizes_whose_patch_does_not_divide_are_left_out() -> None:
    counts = {c.name: c for c in count_all(256)}
    assert "S/4" in counts and "S/7" not in counts
    assert all(c.table_parameters is None for c in counts.values())
