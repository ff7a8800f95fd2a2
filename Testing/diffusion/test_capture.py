"""What a CUDA graph asks of a denoiser's evaluation, looked at without a GPU: no tensor has values, only a device."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from DiffMaCore.baselines import BACKBONES
from DiffMaCore.baselines.registry import build_denoiser
from DiffMaCore.ops.spiral import order

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() and torch.__version__.startswith("2.6"),
    reason="fake tensors of torch 2.6 on a GPU ask for a driver",
)


class OnTheDevice(TorchDispatchMode):
    """Fails where an operation makes a tensor elsewhere, such as a constant in host memory that is then copied."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            assert not isinstance(made, Tensor) or made.device.type == "cuda", f"{func} makes a tensor on {made.device}"
        return out


def evaluate(backbone: str, backend: str, dtype: torch.dtype) -> Tensor:
    """One evaluation on a GPU that is not there; whatever asks for a value, and so waits for the device, fails."""
    model = build_denoiser(backbone, latent_size=8, patch_size=2, width=32, depth=2, learn_sigma=True)
    model.requires_grad_(False).eval()
    model.set_scan_backend(backend)
    shapes = ((2, 4, 8, 8), (2,), (2, 32), (2, 16, 32), (2, 16, 1), (2, 4, 8, 8))
    with FakeTensorMode():
        for module in model.modules():
            for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                kept = not tensor.is_floating_point() or name in getattr(module, "float32", ())
                there = torch.empty(tensor.shape, dtype=tensor.dtype if kept else dtype, device="cuda")
                parameter = nn.Parameter(there, requires_grad=False) if isinstance(tensor, nn.Parameter) else there
                (module._parameters if isinstance(tensor, nn.Parameter) else module._buffers)[name] = parameter
        given = [torch.empty(shape, dtype=dtype, device="cuda") for shape in shapes]
        given[1] = torch.empty(2, dtype=torch.int64, device="cuda")
        with torch.inference_mode(), OnTheDevice():
            return model(*given).sample


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backbone", [*BACKBONES, "unet"])
def test_an_evaluation_stays_on_the_device_and_never_waits_for_it(backbone: str, dtype: torch.dtype) -> None:
    out = evaluate(backbone, "torch", dtype)
    assert (out.shape, out.dtype, out.device.type) == ((2, 8, 8, 8), dtype, "cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_so_does_what_stands_around_the_triton_kernels(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launches themselves are left out: there is no GPU to launch on."""
    pytest.importorskip("triton", reason="Triton has no package for this system")
    from DiffMaCore.ops.triton import scan, spiral

    launched = []

    class NoLaunch:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, grid: Any) -> Any:
            return lambda *args, **options: launched.append(self.name)

    for kernels, names in ((spiral.kernels, ("gather", "merge")), (scan.kernels, ("scan_forward",))):
        for name in names:
            monkeypatch.setattr(kernels, name, NoLaunch(name))
    for module in (spiral, scan):
        monkeypatch.setattr(module, "current", lambda tensor: contextlib.nullcontext())
    monkeypatch.setattr(order, "choose_backend", lambda *asked: "triton")
    assert evaluate("diffma", "triton", dtype).dtype == dtype
    assert launched == ["gather", "scan_forward", "merge"] * 2


def test_the_check_sees_constants_made_on_the_host_and_questions_to_the_device() -> None:
    with FakeTensorMode():
        x = torch.empty(3, device="cuda")
        with OnTheDevice(), pytest.raises(AssertionError, match="on cpu"):
            x + torch.arange(3).to("cuda")
        with pytest.raises(Exception, match=r"item|data.dependent|_local_scalar_dense"):
            bool((x > 0).all())
