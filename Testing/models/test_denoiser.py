"""The denoiser."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from DiffMaCore import DiffMa, preset
from DiffMaCore.models import orders
from DiffMaCore.models.diffma import SpiralMamba
from DiffMaCore.presets import PRESETS


def _small(**changes: object) -> DiffMa:
    torch.manual_seed(0)
    return DiffMa(**{"latent_size": 12, "patch_size": 2, "width": 32, "depth": 5, **changes}).eval()


def _inputs(model: DiffMa, batch: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    size, width = model.config["latent_size"], model.config["width"]
    return (
        torch.randn(batch, 4, size, size, generator=generator),
        torch.tensor([3, 900][:batch]),
        torch.randn(batch, width, generator=generator),
        torch.randn(batch, model.tokens, width, generator=generator),
        torch.rand(batch, model.tokens, 1, generator=generator),
    )


def _shaken(model: DiffMa) -> DiffMa:
    """Zero-initialised modulations made to count, so that a comparison sees every block."""
    generator = torch.Generator().manual_seed(2)
    for block in model.blocks:
        block.adaLN_modulation[1].weight.data.normal_(std=0.2, generator=generator)
    model.final.adaLN_modulation[1].weight.data.normal_(std=0.2, generator=generator)
    model.final.linear.weight.data.normal_(std=0.2, generator=generator)
    return model


def test_there_are_fifteen_presets_and_each_is_plain_data() -> None:
    assert len(PRESETS) == 15
    assert preset("L/2") == {"latent_size": 28, "patch_size": 2, "width": 512, "depth": 16}
    assert preset("XXL/7", image_size=448)["latent_size"] == 56


@pytest.mark.parametrize(("image_size", "patch"), [(224, 7), (256, 4), (448, 7), (512, 4), (1024, 2)])
def test_any_latent_that_the_patch_divides_works(image_size: int, patch: int) -> None:
    with torch.device("meta"):
        model = DiffMa(**preset(f"S/{patch}", image_size))
    assert model.tokens == (image_size // 8 // patch) ** 2


def test_a_patch_that_does_not_divide_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="patch of 7 does not divide a latent of 32"):
        preset("S/7", image_size=256)
    with pytest.raises(ValueError, match="patch of 5 does not divide"):
        DiffMa(latent_size=12, patch_size=5, width=32, depth=1)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean XL/2"):
        preset("xl2")


def test_output_has_epsilon_and_variance_of_the_latents_shape() -> None:
    model = _small()
    assert model(*_inputs(model)).sample.shape == (2, 8, 12, 12)
    plain = _small(learn_sigma=False)
    assert plain(*_inputs(plain)).sample.shape == (2, 4, 12, 12)


def test_a_new_model_gives_zero_because_its_output_and_gates_are_zero() -> None:
    model = _small()
    assert not model(*_inputs(model)).sample.any()


def test_mambas_own_initialisation_survives_the_models() -> None:
    for module in _small().modules():
        if isinstance(module, SpiralMamba):
            step = F.softplus(module.dt_bias)
            assert 0.9e-3 < step.min() < 0.01 < step.max() < 0.11
            states = torch.arange(1, 17.0).expand_as(module.A_log)
            torch.testing.assert_close(module.A_log.exp(), states)
            assert module.dt_weight.abs().max() <= module.rank**-0.5
            assert (module.D == 1).all()


@pytest.mark.parametrize("scan_order", orders.SCAN_ORDERS)
@pytest.mark.parametrize("ct_conditioning", ["pooled", "tokens"])
def test_numba_and_plain_torch_agree_in_values_and_gradients(scan_order: str, ct_conditioning: str) -> None:
    results = []
    for backend in ("torch", "numba"):
        model = _shaken(_small(scan_order=scan_order, ct_conditioning=ct_conditioning))
        model.set_scan_backend(backend)
        out = model(*_inputs(model)).sample
        out.square().mean().backward()
        results.append((out.detach(), {name: p.grad for name, p in model.named_parameters()}))
    (plain, plain_grads), (fast, fast_grads) = results
    torch.testing.assert_close(fast, plain, atol=2e-4, rtol=1e-4)
    for name, gradient in plain_grads.items():
        assert gradient is not None, name
        scale = gradient.abs().max().clamp(min=1e-6)
        assert (fast_grads[name] - gradient).abs().max() <= 1e-3 * scale, name


def test_block_i_uses_scheme_i_mod_8() -> None:
    model = _small(depth=10)
    for i, block in enumerate(model.blocks):
        assert (block.mamba.order[1].numpy() == orders.spiral(6)[i % 8]).all()


def test_directions_summed_before_the_projection_equal_three_separate_mambas() -> None:
    torch.manual_seed(0)
    mamba = SpiralMamba(width=16, grid=4, block=3)
    mamba.backend = "torch"
    tokens = torch.randn(2, 2, 16, 16)
    expected = torch.stack([_three_scans(mamba, branch, tokens[branch]) for branch in range(2)])
    torch.testing.assert_close(mamba(tokens), expected, atol=1e-5, rtol=1e-4)


def _three_scans(mamba: SpiralMamba, branch: int, tokens: torch.Tensor) -> torch.Tensor:
    """The released way, written out: every direction with its own gate and its own out_proj."""
    total = torch.zeros_like(tokens)
    for order, position in zip(mamba.order, mamba.position, strict=True):
        x, z = (tokens @ mamba.in_proj[branch].T)[:, order].chunk(2, dim=2)
        taps = mamba.conv_weight.shape[-1]
        x = F.conv1d(
            F.pad(x.mT, (taps - 1, 0)), mamba.conv_weight[branch][:, None], mamba.conv_bias[branch], groups=mamba.inner
        ).mT
        x = F.silu(x)
        dt, b, c = (x @ mamba.x_proj[branch].T).split([mamba.rank, mamba.state_size, mamba.state_size], dim=2)
        delta = F.softplus(dt @ mamba.dt_weight[branch].T + mamba.dt_bias[branch])
        state = torch.zeros(len(x), mamba.inner, mamba.state_size)
        outputs = []
        for s in range(x.shape[1]):
            decay = torch.exp(delta[:, s, :, None] * -mamba.A_log[branch].exp())
            state = decay * state + (delta[:, s] * x[:, s])[..., None] * b[:, s, None]
            outputs.append((state * c[:, s, None]).sum(2) + mamba.D[branch] * x[:, s])
        y = torch.stack(outputs, dim=1) * F.silu(z)
        total = total + (y @ mamba.out_proj[branch].T)[:, position]
    return total


def test_the_dit_of_table_2_matches_diffma_b2_in_true_parameters() -> None:
    with torch.device("meta"):
        dit = DiffMa(**preset("B/2", depth=7, backbone="dit"))
    assert round(sum(p.numel() for p in dit.parameters()) / 1e6, 2) == 45.56


def test_a_dit_sees_every_token_from_every_other() -> None:
    model = _shaken(_small(backbone="dit", depth=2))
    x, *rest = _inputs(model, 1)
    changed = x.clone()
    changed[..., 0, 0] += 1
    moved = (model(changed, *rest).sample - model(x, *rest).sample).abs().amax(dim=(0, 1))
    assert moved[-2:, -2:].min() > 0


def test_saved_and_loaded_models_are_equal(tmp_path: Path) -> None:
    model = _shaken(_small(scan_order="released"))
    model.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = DiffMa.from_pretrained(tmp_path).eval()
    assert loaded.config["scan_order"] == "released"
    inputs = _inputs(model)
    assert torch.equal(model(*inputs).sample, loaded(*inputs).sample)


def test_a_latent_of_another_size_is_named() -> None:
    model = _small()
    with pytest.raises(ValueError, match="latents of 12 x 12, not 16 x 16"):
        model(torch.zeros(1, 4, 16, 16), *_inputs(model, 1)[1:])


def test_positions_code_rows_and_columns_apart() -> None:
    positions = _small().positions.view(6, 6, 32)
    assert torch.equal(positions[0, 3, :16], positions[5, 3, :16])
    assert torch.equal(positions[2, 0, 16:], positions[2, 5, 16:])
    assert math.isclose(float(positions.square().sum(2).mean()), 16.0, rel_tol=1e-5)
