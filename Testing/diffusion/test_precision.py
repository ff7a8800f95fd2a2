"""In what numbers the denoiser computes: chosen, told, and near enough."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

from DiffMaCore import DiffMaPipeline
from DiffMaCore.baselines import BACKBONES
from DiffMaCore.baselines.registry import build_denoiser
from DiffMaCore.cli.main import build_parser
from DiffMaCore.diffusion import pipeline
from DiffMaCore.diffusion.precision import choose_precision, in_precision, tf32
from DiffMaCore.errors import BackendError
from Testing.images import head_like_ct

NEAR = 0.006  # of the latents; 0.0030 was measured, and 20 steps themselves are 0.017 from the ODE's solution
NEW_SWITCHES = [torch.backends.cuda.matmul, torch.backends.cudnn.conv] if hasattr(torch.backends.cudnn, "conv") else []


@pytest.fixture
def pipe(tiny_bundle: Path) -> DiffMaPipeline:
    return DiffMaPipeline.from_pretrained(tiny_bundle)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_the_precision_is_chosen_by_the_device_and_stands_in_every_result(pipe: DiffMaPipeline) -> None:
    assert pipe(head_like_ct(), num_inference_steps=1).metadata["precision"] == "float32"
    for asked, told in (("auto", "float32"), ("bfloat16", "bfloat16"), ("float32", "float32")):
        pipe.set_device("cpu", precision=asked)
        assert pipe(head_like_ct(), num_inference_steps=1).metadata["precision"] == told


def test_a_precision_that_cannot_be_is_refused_with_the_reason() -> None:
    with pytest.raises(BackendError, match="'half'; use auto, float32 or bfloat16"):
        choose_precision("half", torch.device("cpu"))
    with pytest.raises(BackendError, match=r"bfloat16 cannot be used on mps: .*; use --precision float32"):
        choose_precision("bfloat16", torch.device("mps"))
    assert choose_precision("auto", torch.device("mps")) == "float32"


@pytest.mark.parametrize("command", [["convert", "ct.nii", "mr.nii"], ["demo"]])
def test_every_command_that_converts_takes_it(command: list[str]) -> None:
    assert build_parser().parse_args(command).precision == "auto"
    assert build_parser().parse_args([*command, "--precision", "bfloat16"]).precision == "bfloat16"


def test_bfloat16_changes_a_trained_models_latents_less_than_its_solver_errs() -> None:
    demo = DiffMaPipeline.from_pretrained("demo")
    size = demo.bundle.image_size
    across = torch.linspace(-1, 1, size)
    head = (across[:, None] ** 2 / 0.7 + across**2 / 0.5 < 1).float()
    texture = torch.randn(1, size, size, generator=torch.Generator().manual_seed(0))
    conditions = demo.conditions(-1000 + head * (1040 + 20 * texture))
    exact = demo.denoise(conditions, 20)
    demo.set_device("cpu", precision="bfloat16")
    rounded = demo.denoise(conditions, 20)
    assert rounded.dtype == torch.float32
    assert 1e-4 < error(rounded, exact) < NEAR


def test_what_decides_the_decays_stays_float32_and_the_bundles_own_weights_are_not_touched(
    pipe: DiffMaPipeline, tiny_bundle: Path, tmp_path: Path
) -> None:
    rounded = in_precision(pipe.denoiser, "bfloat16")
    types = {name: parameter.dtype for name, parameter in rounded.named_parameters()}
    full = {name for name, dtype in types.items() if dtype == torch.float32}
    assert full == {f"blocks.{i}.mamba.{name}" for i in range(2) for name in ("A_log", "D", "dt_bias")}
    assert set(types.values()) == {torch.float32, torch.bfloat16}
    assert rounded.positions.dtype == torch.bfloat16 and rounded.blocks[0].mamba.order.dtype == torch.int64

    pipe.set_device("cpu", precision="bfloat16")
    pipe.vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as it lies on a GPU
    pipe.save_pretrained(tmp_path / "saved")
    weights = [file.relative_to(tiny_bundle) for file in tiny_bundle.rglob("*.safetensors")]
    assert len(weights) == 4
    assert all((tmp_path / "saved" / file).read_bytes() == (tiny_bundle / file).read_bytes() for file in weights)


def test_the_vae_gives_the_same_with_its_channels_last_as_on_a_gpu(pipe: DiffMaPipeline) -> None:
    slices = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0)) * 300
    latents = pipe.conditions(slices).ct_latent
    expected = pipe.decode(latents)
    pipe.vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.allclose(pipe.conditions(slices).ct_latent, latents, atol=1e-5)
    assert torch.allclose(pipe.decode(latents), expected, atol=0.01)  # of 1000


def switches() -> list[object]:
    """Whether CUDA may compute this process's products and convolutions in TF32, by both of torch's ways to ask."""
    asked = [torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32]
    return asked + [kind.fp32_precision for kind in NEW_SWITCHES]


@pytest.fixture(params=[("high", False), ("highest", True)], ids=["products in TF32", "convolutions in TF32"])
def before(request: pytest.FixtureRequest) -> Iterator[list[object]]:
    """The switches as a program that uses the package has set them."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(request.param[0])
    torch.backends.cudnn.allow_tf32 = request.param[1]
    yield switches()
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions


def allowed_now() -> tuple[bool, bool]:
    """Whether products and convolutions may be TF32, by torch's newer switches where there are any."""
    if NEW_SWITCHES:
        return NEW_SWITCHES[0].fp32_precision == "tf32", NEW_SWITCHES[1].fp32_precision == "tf32"
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_tf32_is_switched_while_a_pipeline_computes_and_given_back_to_the_program(
    precision: str, before: list[object], pipe: DiffMaPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, of which this machine needs none."""
    seen = []
    for network in (pipe.vae.encoder, pipe.image_encoder, pipe.denoiser, pipe.vae.decoder):
        network.register_forward_pre_hook(lambda *_: seen.append(allowed_now()))
    monkeypatch.setattr(pipeline, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(pipeline, "choose_precision", lambda name, device: name)
    monkeypatch.setattr(pipe, "to", lambda device: pipe)
    pipe.set_device("cuda", "torch", precision)
    assert switches() == before
    pipe.capture = pipe.overlap = False
    pipe(head_like_ct(), num_inference_steps=1)
    assert set(seen) == {(precision == "bfloat16",) * 2} and len(seen) >= 4
    assert switches() == before


def test_a_pipeline_on_a_cpu_leaves_tf32_alone(before: list[object], pipe: DiffMaPipeline) -> None:
    seen = []
    pipe.vae.encoder.register_forward_pre_hook(lambda *_: seen.append(switches()))
    pipe.set_device("cpu")
    pipe(head_like_ct(), num_inference_steps=1)
    assert seen and all(each == before for each in seen) and switches() == before


def test_the_last_of_several_threads_gives_tf32_back(before: list[object]) -> None:
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(tf32(True))
        second.enter_context(tf32(True))
        first.close()
        assert allowed_now() == (True, True)  # the second computes still
        second.close()
        assert switches() == before
    with pytest.raises(ZeroDivisionError), tf32(False):
        assert allowed_now() == (False, False)
        raise ZeroDivisionError
    assert switches() == before


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("backbone", [*BACKBONES, "unet"])
def test_every_denoiser_takes_bfloat16_on_every_back_end_of_a_cpu(backbone: str, backend: str) -> None:
    torch.manual_seed(0)
    model = build_denoiser(backbone, latent_size=8, patch_size=2, width=32, depth=2)
    for name, parameter in model.named_parameters():
        if not parameter.any() and not name.endswith("bias"):  # zero at first, which would hide every error
            torch.nn.init.normal_(parameter, std=0.05)
    model.requires_grad_(False).eval()
    model.set_scan_backend(backend)
    shapes = ((2, 4, 8, 8), (2, 32), (2, 16, 32), (2, 16, 1), (2, 4, 8, 8))
    x, *conditions = [torch.rand(shape) for shape in shapes]
    t = torch.tensor([10, 900])
    with torch.inference_mode():
        exact = model(x, t, *conditions).sample
        half = in_precision(model, "bfloat16")(x.bfloat16(), t, *(part.bfloat16() for part in conditions)).sample
    assert half.dtype == torch.bfloat16
    assert 1e-4 < error(half.float(), exact) < 0.03


def test_a_whole_conversion_in_bfloat16_looks_the_same_and_leaves_no_trace(pipe: DiffMaPipeline) -> None:
    images = []
    for precision in ("float32", "bfloat16", "float32"):
        pipe.set_device("cpu", precision=precision)
        images.append(torch.from_numpy(sitk.GetArrayFromImage(pipe(head_like_ct(), num_inference_steps=4).mr)))
    exact, rounded, back = images
    assert not torch.equal(rounded, exact)
    assert error(rounded, exact) < 0.05
    assert torch.equal(back, exact)


def test_half_the_bytes_are_reckoned_for_the_denoiser_and_more_where_work_overlaps(pipe: DiffMaPipeline) -> None:
    full = pipe.bytes_per_slice()
    pipe.set_device("cpu", precision="bfloat16")
    assert full - pipe.bytes_per_slice() == 2 * pipe.denoiser.floats_per_slice
    alone = pipe.bytes_per_slice()
    pipe.overlap = True
    assert pipe.bytes_per_slice() > alone
