"""Methods in, ratios of their speeds out: they take turns in one process, so that a busy machine slows them alike."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from DiffMaCore.baselines.systems import build_denoiser, count_parameters
from DiffMaCore.devices import processor_name
from DiffMaCore.diffusion.precision import DTYPES
from DiffMaCore.errors import InputError
from DiffMaCore.ops.scan import available_backends, selective_scan
from DiffMaCore.ops.scan.arguments import check_arguments
from DiffMaCore.ops.scan.reference import reference_scan
from DiffMaCore.presets import preset

REFERENCE = "reference"

Scan = Callable[..., Tensor]


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

    With all options (skip, gate, bias, softplus), forward and forward with backward; u, delta, B, C and z of the given
    type, the rest float32. The error is measured on one sample against the reference in float64 on the same numbers.
    Returns a dictionary for JSON: the machine, the
    shape, the back ends that do not run with the reason, and the results.

    Raises InputError for sizes below 1.
    """
    if min(batch, channels, tokens, states, rounds) < 1:
        raise InputError("the sizes of a benchmark and its rounds must be at least 1; leave them out for the defaults")
    reasons = available_backends(device)
    scans: dict[str, Scan] = {REFERENCE: _reference}
    scans |= {name: _named(name) for name, reason in reasons.items() if reason is None}
    problem = _problem(batch, channels, tokens, states, device, DTYPES[dtype])
    weight = torch.randn_like(problem["u"])
    errors = _errors(scans, {name: _one_sample(tensor) for name, tensor in problem.items()}, weight[:1])
    results: list[dict[str, Any]] = []
    for discipline, run in (("forward", _forward), ("forward+backward", _forward_backward)):
        progress(f"{discipline}: {rounds} rounds of {', '.join(scans)}")
        turns = {name: _turn(run, scan, problem, weight) for name, scan in scans.items()}
        seconds = take_turns(turns, rounds, device)
        results += [result(discipline, name, seconds, errors[discipline][name], REFERENCE) for name in scans]
    return {
        "benchmark": "scan",
        "machine": machine(device),
        "shape": {"batch": batch, "channels": channels, "tokens": tokens, "states": states, "dtype": dtype},
        "rounds": rounds,
        "unavailable": {name: reason for name, reason in reasons.items() if reason is not None},
        "results": results,
    }


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
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _turn(run: Callable[..., Any], scan: Scan, problem: dict[str, Tensor], weight: Tensor) -> Callable[[], Any]:
    return lambda: run(scan, problem, weight)


def _reference(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, **options: Tensor) -> Tensor:
    given = check_arguments(u, delta, A, B, C, options["D"], options["z"], options["delta_bias"], True)
    return reference_scan(given)[0]


def _named(name: str) -> Scan:
    return lambda **problem: selective_scan(**problem, delta_softplus=True, backend=name)


def _problem(batch: int, channels: int, tokens: int, states: int, device: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """As in a Mamba: token-major memory, A = -1..-N, steps from 0.001 to 0.1."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    steps = torch.rand(channels, generator=generator) * 4.6 - 6.9
    problem = {
        "u": draw(batch, tokens, channels).transpose(1, 2),
        "delta": draw(batch, tokens, channels).transpose(1, 2),
        "A": -torch.arange(1.0, states + 1, device=device).repeat(channels, 1),
        "B": draw(batch, tokens, states).transpose(1, 2),
        "C": draw(batch, tokens, states).transpose(1, 2),
        "D": torch.ones(channels, device=device),
        "z": draw(batch, tokens, channels).transpose(1, 2),
        "delta_bias": steps.to(device),
    }
    return {name: tensor.requires_grad_() for name, tensor in problem.items()}


def _one_sample(tensor: Tensor) -> Tensor:
    return (tensor[:1] if tensor.dim() == 3 else tensor).detach().requires_grad_()


def _forward(scan: Scan, problem: dict[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return {"out": scan(**problem)}


def _forward_backward(scan: Scan, problem: dict[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    out = scan(**problem)
    gradients = torch.autograd.grad(out, list(problem.values()), weight)
    return {"out": out.detach(), **dict(zip(problem, gradients, strict=True))}


def _errors(scans: dict[str, Scan], problem: dict[str, Tensor], weight: Tensor) -> dict[str, dict[str, float]]:
    exact_problem = {name: tensor.detach().double().requires_grad_() for name, tensor in problem.items()}
    exact = _forward_backward(_reference, exact_problem, weight.double())
    errors: dict[str, dict[str, float]] = {"forward": {}, "forward+backward": {}}
    for name, scan in scans.items():
        for discipline, run in (("forward", _forward), ("forward+backward", _forward_backward)):
            got = run(scan, problem, weight)
            errors[discipline][name] = worst_error(got, exact)
    return errors


def result(discipline: str, name: str, seconds: dict[str, list[float]], error: float, reference: str) -> dict[str, Any]:
    """How many times as fast as the reference a method is; ``error`` is its :func:`worst_error` to float64."""
    row = versus(name, seconds[name], seconds[reference], faster=True)
    return {"discipline": discipline, **row, "relative_error": error}


def worst_error(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Largest difference over the largest value, of what is worst."""
    return max(float((v.double() - exact[key]).abs().max() / exact[key].abs().max()) for key, v in found.items())
