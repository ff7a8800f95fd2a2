"""A device and a wish in, the number format of the denoiser out, and what stays float32 whatever is chosen.

Measured in docs/benchmarks.md. Latents, the scheduler's arithmetic, the VAE, the image encoder and the Vision
Embedder are float32 always.
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import nn

from DiffMaCore.errors import BackendError
from DiffMaCore.models.ssm import StackedSSM

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Network = TypeVar("Network", bound=nn.Module)
Method = TypeVar("Method", bound=Callable[..., Any])


def choose_precision(name: str, device: torch.device) -> str:
    """ "float32" or "bfloat16"; "auto" is bfloat16 on a CUDA device that computes in it, else float32.

    Raises:
        BackendError: an unknown name, or the device does not compute in it.
    """
    reason = _why_not_bfloat16(device)
    if name == "auto":
        return "bfloat16" if device.type == "cuda" and reason is None else "float32"
    if name not in DTYPES:
        raise BackendError(f"no precision is called {name!r}; use auto, float32 or bfloat16")
    if name == "bfloat16" and reason is not None:
        raise BackendError(f"bfloat16 cannot be used on {device}: {reason}; use --precision float32")
    return name


def _why_not_bfloat16(device: torch.device) -> str | None:
    if device.type == "cpu":
        return None
    if device.type != "cuda":
        return "it was tried on CPUs and NVIDIA GPUs only"
    with torch.cuda.device(device):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return None if native else f"{torch.cuda.get_device_name(device)} does not compute in it"


def in_precision(network: Network, precision: str) -> Network:
    """The network itself where it is float32, else a copy for inference whose weights are rounded.

    The state space models keep A, D and the steps' bias in float32: a decay exp(delta A) acts once a token, so that
    an error of A grows with the sequence.
    """
    if precision == "float32":
        return network
    dtype = DTYPES[precision]
    rounded = copy.deepcopy(network)
    for module in rounded.modules():
        kept = module.float32 if isinstance(module, StackedSSM) else ()
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if tensor.is_floating_point() and name not in kept:
                tensor.data = tensor.data.to(dtype)
    return rounded


_lock = threading.Lock()
_inside: list[list[Any]] = []
"""For everyone inside of :func:`tf32`: the switches as they were before the first of them entered."""


def _tf32_switches() -> tuple[str, tuple[Any, Any], tuple[Any, ...]]:
    """Attribute, its values for "no" and "yes", and what has it."""
    products, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):  # torch 2.9; where a program uses these, the older ones cannot be read any more
        return "fp32_precision", ("ieee", "tf32"), (products, cudnn.conv, cudnn.rnn)
    return "allow_tf32", (False, True), (products, cudnn)


@contextmanager
def tf32(allowed: bool | None) -> Iterator[None]:
    """Whether CUDA may compute float32 products and convolutions in TF32, with 10 bits of mantissa, within the block.

    The switches are the whole process's: the thread that entered last decides, the last one to leave gives them back.
    None leaves them alone.
    """
    if allowed is None:
        yield
        return
    name, values, switches = _tf32_switches()
    with _lock:
        _inside.append(_inside[0] if _inside else [getattr(switch, name) for switch in switches])
        for switch in switches:
            setattr(switch, name, values[allowed])
    try:
        yield
    finally:
        with _lock:
            before = _inside.pop()
            if not _inside:
                for switch, value in zip(switches, before, strict=True):
                    setattr(switch, name, value)


def in_own_tf32(method: Method) -> Method:
    """A method that computes within :func:`tf32` of its object's attribute ``tf32``."""

    @functools.wraps(method)
    def within(self: Any, *args: Any, **options: Any) -> Any:
        with tf32(self.tf32):
            return method(self, *args, **options)

    return cast(Method, within)
