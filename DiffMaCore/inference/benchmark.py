"""Methods in, ratios of their speeds out: they take turns in one process, so that a busy machine slows them alike."""

from __future__ import annotations

import copy
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from DiffMaCore.baselines.registry import build_denoiser, count_parameters
from DiffMaCore.devices import processor_name
from DiffMaCore.diffusion.precision import DTYPES, in_precision
from DiffMaCore.errors import InputError
from DiffMaCore.models.diffma import BRANCHES, SpiralMamba
from DiffMaCore.ops.scan import available_backends, selective_scan
from DiffMaCore.ops.scan.arguments import ScanArguments
from DiffMaCore.ops.scan.reference import reference_scan
from DiffMaCore.ops.spiral.order import spiral_scan
from DiffMaCore.presets import preset

REFERENCE = "reference"


def machine(device: str | torch.device = "cpu") -> dict[str, Any]:
    """What a measurement depends on: processor, threads, versions, and how busy the machine is."""
    kind = torch.device(device)
    return {
        "processor": processor_name(),
        "device": torch.cuda.get_device_name(kind) if kind.type == "cuda" else str(kind),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def take_turns(
    methods: dict[str, Callable[[], Any]],
    rounds: int,
    device: str | torch.device = "cpu",
    prepare: Callable[[str], Any] = lambda name: None,
) -> dict[str, list[float]]:
    """Seconds of each method in each round; every round runs all, each time another one first.

    A round that is not counted goes before (compilation, caches, memory). Whatever ``prepare`` does before a turn takes
    no time.
    """
    names = list(methods)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names:
            prepare(name)
            _finish(device)
            start = time.perf_counter()
            methods[name]()
            _finish(device)
            if turn:
                seconds[name].append(time.perf_counter() - start)
        names = [*names[1:], names[0]]
    return seconds


def _finish(device: str | torch.device) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def benchmark_scan(
    batch: int = 8,
    channels: int = 1024,
    tokens: int = 196,
    states: int = 16,
    device: str | torch.device = "cpu",
    rounds: int = 10,
    progress: Callable[[str], None] = lambda line: None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Compare every scan back end that runs on the device with the reference that materialises (B, D, L, N).

    With all options, forward and forward with backward; u, delta, B, C and z of the given type, the rest float32. The
    error is that of one sample against the reference in float64. Raises InputError for sizes below 1.
    """
    if min(batch, channels, tokens, states, rounds) < 1:
        raise InputError("the sizes of a benchmark and its rounds must be at least 1; leave them out for the defaults")
    reasons = available_backends(device)
    scans: dict[str, Callable[..., Tensor]] = {REFERENCE: _reference}
    named = partial(selective_scan, delta_softplus=True)
    scans |= {name: partial(named, backend=name) for name, reason in reasons.items() if reason is None}
    problem = _problem(batch, channels, tokens, states, device, DTYPES[dtype])
    weight = torch.randn_like(problem["u"])
    one = {name: tensor[:1] if tensor.dim() == 3 else tensor for name, tensor in problem.items()}

    def method(scan: Callable[..., Tensor], given: dict[str, Tensor], weight: Tensor) -> _Method:
        given = {name: tensor.detach().requires_grad_() for name, tensor in given.items()}
        return _Method(partial(scan, **given), given, weight)

    exact = method(_reference, {name: tensor.double() for name, tensor in one.items()}, weight[:1].double())
    results = _compare(
        ("forward", "forward+backward"),
        {name: method(scan, problem, weight) for name, scan in scans.items()},
        {name: method(scan, one, weight[:1]) for name, scan in scans.items()},
        exact, REFERENCE, rounds, device, progress,
    )  # fmt: skip
    return {
        "benchmark": "scan",
        "machine": machine(device),
        "shape": {"batch": batch, "channels": channels, "tokens": tokens, "states": states, "dtype": dtype},
        "rounds": rounds,
        "unavailable": {name: reason for name, reason in reasons.items() if reason is not None},
        "results": results,
    }


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
    """Compare the back ends on the scan with what surrounds it in a block: gather, convolution, scatter and gate.

    Three orders of both branches: six times as much is scanned as in the plain scan of these sizes. ``ratio`` is plain
    torch's time over the method's. A scan alone says little about a GPU, where the gathers around it read and write as
    much memory. Raises InputError where the tokens are no square grid or the channels are odd.
    """
    grid = math.isqrt(tokens)
    if grid * grid != tokens or channels % 2:
        raise InputError(f"{tokens} tokens of {channels} channels: a spiral needs a square grid and even channels")
    torch.manual_seed(0)
    mamba = in_precision(SpiralMamba(channels // 2, grid, block=1, state_size=states).to(device), dtype)
    given = torch.randn(3, BRANCHES, batch, tokens, channels).to(device, DTYPES[dtype])
    names = [name for name, reason in available_backends(device).items() if reason is None]

    def method(mamba: SpiralMamba, backend: str, given: Tensor) -> _Method:
        x, z, weight = given.unbind()
        parts = {"x": x.detach().requires_grad_(), "z": z.detach().requires_grad_()}
        outside = ("in_proj", "out_proj")
        parts |= {name: part for name, part in mamba.named_parameters() if name not in outside}

        def scan() -> Tensor:
            mamba.backend = backend
            return spiral_scan(parts["x"], parts["z"], mamba)

        return _Method(scan, parts, weight)

    return _compare(
        ("spiral", "spiral+backward"),
        {name: method(mamba, name, given) for name in names},
        {name: method(mamba, name, given[:, :, :1]) for name in names},
        method(copy.deepcopy(mamba).double(), "torch", given[:, :, :1].double()), "torch", rounds, device, progress,
    )  # fmt: skip


@dataclass(frozen=True)
class _Method:
    """A scan, the tensors that it is given, and what its output is worth."""

    scan: Callable[[], Tensor]
    given: dict[str, Tensor]
    weight: Tensor

    def run(self, backward: bool) -> dict[str, Tensor]:
        """The output and, after a backward pass, the gradients of all that is given."""
        if not backward:
            with torch.no_grad():
                return {"out": self.scan()}
        out = self.scan()
        gradients = torch.autograd.grad(out, list(self.given.values()), self.weight)
        return {"out": out.detach(), **dict(zip(self.given, gradients, strict=True))}


def _compare(
    disciplines: tuple[str, str],
    methods: dict[str, _Method],
    on_one: dict[str, _Method],
    exact: _Method,
    base: str,
    rounds: int,
    device: str | torch.device,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """How many times as fast as ``base`` the methods are, without and with the backward pass.

    The error is :func:`worst_error` of what each gives of one sample.
    """
    right, rows = exact.run(backward=True), []
    for discipline, backward in zip(disciplines, (False, True), strict=True):
        progress(f"{discipline}: {rounds} rounds of {', '.join(methods)}")
        seconds = take_turns({name: partial(each.run, backward) for name, each in methods.items()}, rounds, device)
        for name, one in on_one.items():
            error = worst_error(one.run(backward), right)
            row = versus(name, seconds[name], seconds[base], faster=True)
            rows.append({"discipline": discipline, **row, "relative_error": error})
    return rows


def benchmark_step(
    name: str = "B/2",
    batch: int = 8,
    image_size: int = 224,
    device: str | torch.device = "cpu",
    rounds: int = 5,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compare one denoising step of DiffMa with that of DiT's blocks in the same frame, by back end.

    DiT has 7 layers for DiffMa-B's 8, as in Table 2, in proportion for other sizes, and as many true parameters.
    Float32, random weights. ``ratio`` is the method's time over DiT's.
    """
    config = preset(name, image_size)
    models = {key: build_denoiser(key, **config, learn_sigma=True).eval().to(device) for key in ("dit", "diffma")}
    tokens, inputs = models["diffma"].tokens, random_step(models["diffma"], batch)

    def step(model: Any, backend: str) -> Callable[[], None]:
        def run() -> None:
            model.set_scan_backend(backend)
            with torch.inference_mode():
                model(*inputs)

        return run

    reasons = available_backends(device)
    turns = {"dit": step(models["dit"], "auto")}
    turns |= {f"diffma, {key}": step(models["diffma"], key) for key, reason in reasons.items() if reason is None}
    progress(f"{name} at {tokens} tokens, batch {batch}: {rounds} rounds of {'; '.join(turns)}")
    seconds = take_turns(turns, rounds, device)
    parameters = {key: count_parameters(model) for key, model in models.items()}
    return {
        "benchmark": "step",
        "machine": machine(device),
        "shape": {"size": name, "image_size": image_size, "tokens": tokens, "batch": batch},
        "parameters": parameters,
        "rounds": rounds,
        "results": [versus(key, seconds[key], seconds["dit"]) for key in turns],
    }


def random_step(model: Any, batch: int) -> list[Tensor]:
    """What a denoiser takes for one evaluation of so many slices, in its own type and on its device."""
    side, width, tokens = model.config["latent_size"], model.config["width"], model.tokens
    shapes = ((batch, 4, side, side), (batch,), (batch, width), (batch, tokens, width), (batch, tokens, 1))
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(shape, generator=generator).to(model.positions) for shape in shapes]


def versus(method: str, own: list[float], other: list[float], faster: bool = False) -> dict[str, Any]:
    """A method's seconds, and ratios of its times to another's of the same rounds (``faster``: of the other's to
    its), for JSON."""
    ratios = [theirs / mine if faster else mine / theirs for mine, theirs in zip(own, other, strict=True)]
    return {
        "method": method,
        "median_s": statistics.median(own),
        "min_s": min(own),
        "max_s": max(own),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _reference(**problem: Tensor) -> Tensor:
    return reference_scan(ScanArguments(**problem, delta_softplus=True))[0]


def _problem(batch: int, channels: int, tokens: int, states: int, device: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """As in a Mamba: token-major memory, A = -1..-N, steps from 0.001 to 0.1."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    steps = torch.rand(channels, generator=generator) * 4.6 - 6.9
    return {
        "u": draw(batch, tokens, channels).transpose(1, 2),
        "delta": draw(batch, tokens, channels).transpose(1, 2),
        "A": -torch.arange(1.0, states + 1, device=device).repeat(channels, 1),
        "B": draw(batch, tokens, states).transpose(1, 2),
        "C": draw(batch, tokens, states).transpose(1, 2),
        "D": torch.ones(channels, device=device),
        "z": draw(batch, tokens, channels).transpose(1, 2),
        "delta_bias": steps.to(device),
    }


def worst_error(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Largest difference over the largest value, of what is worst."""
    return max(float((v.double() - exact[key]).abs().max() / exact[key].abs().max()) for key, v in found.items())
