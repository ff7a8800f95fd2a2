"""A device in, out the selective-scan back ends that run on it, why others do not, and which one is taken."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from DiffMaCore.errors import BackendError
from DiffMaCore.ops.scan.arguments import ScanArguments
from DiffMaCore.ops.scan.probing import failure_of, scan_error
from DiffMaCore.ops.scan.torch_scan import torch_scan

logger = logging.getLogger("DiffMaCore")

Scan = Callable[[ScanArguments], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Backend:
    """One way to compute the scan.

    `reason(device type)` is None where it runs, else why not; `load()` imports and returns the scan;
    `preferred` names the device types on which "auto" takes it before plain torch; `float64` tells whether
    it can compute in double precision.
    """

    reason: Callable[[str], str | None]
    load: Callable[[], Scan]
    preferred: frozenset[str]
    float64: bool = True

    def reason_for(self, device: str, dtype: torch.dtype) -> str | None:
        """As `reason`, for a state of that type."""
        if dtype == torch.float64 and not self.float64:
            return "it computes in float32, not in float64"
        return self.reason(device)


def _compiled(
    name: str, kind: str, module: str, function: str, error: Callable[[Scan, str], float], float64: bool = False
) -> Backend:
    """A back end of binaries for one kind of device, which is used where ``error`` finds it right, asked once."""

    def load() -> Scan:
        return getattr(importlib.import_module(f"DiffMaCore.ops.{module}"), function)

    @functools.cache
    def failure(device: str) -> str | None:
        return failure_of(name, lambda: error(load(), device))

    def reason(device: str) -> str | None:
        interpreted = name == "Triton" and device == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
        if device != kind and not interpreted:
            return f"{name} computes on {kind} devices only, not on {device}"
        if device == "cuda" and not torch.cuda.is_available():
            return "no CUDA device is available"
        return failure(device)

    return Backend(reason, load, frozenset({kind}), float64)


def _mamba_ssm_error(scan: Scan, device: str) -> float:
    from DiffMaCore.ops.scan.mamba_ssm_scan import convolution_error

    return max(convolution_error(device), scan_error(scan, device))


# "auto" takes the first of those preferred on a device that runs there.
BACKENDS: dict[str, Backend] = {
    "triton": _compiled("Triton", "cuda", "triton.scan", "triton_scan", scan_error),
    "mamba-ssm": _compiled("mamba-ssm", "cuda", "scan.mamba_ssm_scan", "mamba_ssm_scan", _mamba_ssm_error),
    # its kernels are our own, so that it is right where it can be imported
    "numba": _compiled("Numba", "cpu", "scan.numba_scan", "numba_scan", lambda scan, device: 0.0, float64=True),
    "torch": Backend(lambda device: None, lambda: torch_scan, frozenset()),
}


def available_backends(device: str | torch.device = "cpu") -> dict[str, str | None]:
    """Every back end by name: None where it runs on the device, else the reason why it does not."""
    kind = torch.device(device).type
    return {name: backend.reason(kind) for name, backend in BACKENDS.items()}


def choose_backend(name: str = "auto", device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> str:
    """Name of the back end to use on a device for a state of a type; "auto" takes the fastest that runs.

    Raises BackendError if the named back end is unknown or cannot run; never takes another instead.
    """
    return _choose(name, torch.device(device).type, dtype)


@functools.cache
def _choose(name: str, kind: str, dtype: torch.dtype) -> str:
    if name == "auto":
        preferred = {key: backend for key, backend in BACKENDS.items() if kind in backend.preferred}
        reasons = {key: backend.reason_for(kind, dtype) for key, backend in preferred.items()}
        name = next((key for key, reason in reasons.items() if reason is None), "torch")
        passed_over = "".join(f" ({key}: {reason})" for key, reason in reasons.items() if reason)
        logger.info("selective scan on %s: %s%s", kind, name, passed_over)
        return name
    if name not in BACKENDS:
        known = ", ".join(("auto", *BACKENDS))
        raise BackendError(f"There is no selective-scan back end {name!r}; choose one of {known}.")
    reason = BACKENDS[name].reason_for(kind, dtype)
    if reason is not None:
        raise BackendError(
            f"The selective-scan back end {name!r} cannot run: {reason}; choose 'auto' or one that "
            "`diffma info` lists as available."
        )
    logger.info("selective scan on %s: %s, as asked for", kind, name)
    return name
