"""Time and memory of one denoising step against the number of tokens: the paper's scaling claim, measured.

DiffMa and DiT of equal parameters (Table 2: 7 layers for DiffMa-B's 8) take turns at every size in one process, so
that a busy machine slows all points alike. Memory is measured in a fresh process a point.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.fresh_process import forget_peak, in_fresh_process, used_memory
from DiffMaCore.baselines.registry import build_denoiser, count_parameters
from DiffMaCore.errors import InputError
from DiffMaCore.inference.benchmark import machine, random_step, spread, take_turns
from DiffMaCore.presets import VAE_FACTOR, preset
from DiffMaCore.progress import Reporter

TOKENS = (196, 784, 3136, 12544)
"""Slices of 224, 448, 896 and 1792 pixels at patch 2."""

AT_ONCE = {"cpu": 3136, "cuda": 50176}  # tokens of a batch: enough to fill the machine, a step in seconds
FIT_FROM = 784  # tokens; below, the cost of starting each operation shows
BACKBONES = ("diffma", "dit")


def benchmark_tokens(
    tokens: Sequence[int] = TOKENS,
    name: str = "B/2",
    device: str | torch.device = "cpu",
    rounds: int = 3,
    at_once: int | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Time a denoising step of DiffMa and of DiT at each number of tokens, and the memory that it takes.

    Float32, random weights, inference. All times are seconds per slice: a batch holds ``at_once`` tokens (None: what
    suits the device), at least one slice. ``ratio`` is DiffMa's time over DiT's in the same round; an exponent is the
    slope of log time over log tokens, fitted in each round. Memory is for one slice: ``step_bytes`` what the step
    took beyond program and weights, ``peak_bytes`` the most that the fresh process (on a GPU: the GPU) used.

    Raises InputError for a number of tokens that no square slice of this patch size has, and for sizes below 1.
    """
    if min(*tokens, rounds, at_once or 1) < 1:
        raise InputError("the sizes of a benchmark and its rounds must be at least 1; leave them out for the defaults")
    tokens = sorted(set(tokens))
    images = {count: image_side(count, name) for count in tokens}
    kind = torch.device(device).type
    at_once = at_once or AT_ONCE.get(kind, AT_ONCE["cpu"])
    batches = {count: max(1, at_once // count) for count in tokens}
    reporter = reporter or Reporter()

    turns, parameters = _turns(name, images, batches, device)
    reporter.stage(f"steps of DiffMa-{name} and DiT", (rounds + 1) * len(turns))
    seconds = take_turns({key: _reported(run, reporter) for key, run in turns.items()}, rounds, device)
    times = {
        backbone: {count: [s / batches[count] for s in seconds[f"{backbone} {count}"]] for count in tokens}
        for backbone in BACKBONES
    }
    del turns
    memory = _memory(name, images, str(device), reporter)
    points: list[dict[str, Any]] = [
        {
            "tokens": count,
            "image_size": images[count],
            "batch": batches[count],
            **{backbone: spread(times[backbone][count]) | memory[backbone][count] for backbone in BACKBONES},
            "ratio": spread(_ratios(times, count)),
        }
        for count in tokens
    ]
    return {
        "benchmark": "tokens",
        "machine": machine(device),
        "shape": {"size": name, "tokens": list(tokens), "tokens at once": at_once},
        "parameters": parameters,
        "rounds": rounds,
        "points": points,
        "exponents": {backbone: _exponents(times[backbone]) for backbone in BACKBONES},
        "crossover": crossover([point["tokens"] for point in points], [point["ratio"]["median"] for point in points]),
    }


def image_side(tokens: int, name: str) -> int:
    """Pixels a side of the square slice that has so many tokens in a configuration of Table 1."""
    grid = math.isqrt(tokens)
    patch = preset(name)["patch_size"]
    if grid * grid != tokens:
        raise InputError(
            f"{tokens} tokens are no square grid; give square numbers such as {grid**2} or {(grid + 1) ** 2}"
        )
    return grid * patch * VAE_FACTOR


def crossover(tokens: Sequence[int], ratios: Sequence[float]) -> dict[str, Any]:
    """Where the ratio of DiffMa's time to DiT's falls through 1 for good, interpolated between logarithms.

    Returns "tokens" (None where it does so at no measured size) and the finding in "words".
    """
    if ratios[-1] >= 1:
        return {"tokens": None, "words": f"none in range: DiT is the faster one at {tokens[-1]} tokens still"}
    slower = [i for i, ratio in enumerate(ratios) if ratio >= 1]
    if not slower:
        return {"tokens": None, "words": f"none in range: DiffMa is the faster one from {tokens[0]} tokens on"}
    i = slower[-1]
    share = math.log(ratios[i]) / (math.log(ratios[i]) - math.log(ratios[i + 1]))
    at = math.exp(math.log(tokens[i]) + share * math.log(tokens[i + 1] / tokens[i]))
    return {"tokens": round(at), "words": f"DiffMa is the faster one from about {round(at)} tokens on"}


def exponent(tokens: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of the straight line through log seconds over log tokens (least squares)."""
    x = [math.log(count) for count in tokens]
    return statistics.linear_regression(x, [math.log(s) for s in seconds]).slope


def _exponents(times: dict[int, list[float]]) -> list[dict[str, Any]]:
    """The fit over all points, and over those from FIT_FROM on."""
    growth: list[dict[str, Any]] = []
    for start in sorted({min(times), FIT_FROM}):
        counts = [count for count in times if count >= start]
        if len(counts) > 1 and not any(fit["tokens"] == counts for fit in growth):
            rounds = zip(*(times[count] for count in counts), strict=True)
            growth.append({"tokens": counts, **spread([exponent(counts, one) for one in rounds])})
    return growth


def _ratios(times: dict[str, dict[int, list[float]]], count: int) -> list[float]:
    return [own / other for own, other in zip(times["diffma"][count], times["dit"][count], strict=True)]


def _build(backbone: str, name: str, image_size: int) -> nn.Module:
    return build_denoiser(backbone, **preset(name, image_size), learn_sigma=True).eval()


def _turns(
    name: str, images: dict[int, int], batches: dict[int, int], device: str | torch.device
) -> tuple[dict[str, Callable[[], None]], dict[str, int]]:
    """One step a backbone and size; all sizes of a backbone share one set of weights."""
    turns: dict[str, Callable[[], None]] = {}
    parameters: dict[str, int] = {}
    for backbone in BACKBONES:
        weights: dict[str, Tensor] | None = None
        for count, image_size in images.items():
            model = _build(backbone, name, image_size).to(device)
            if weights is None:
                weights = dict(model.named_parameters())
            model.load_state_dict(weights, assign=True)
            turns[f"{backbone} {count}"] = _step(model, batches[count], device)
        parameters[backbone] = count_parameters(model)
    return turns, parameters


def _step(model: Any, batch: int, device: str | torch.device) -> Callable[[], None]:
    inputs = random_step(model, batch)

    def run() -> None:
        with torch.inference_mode():
            model(*inputs)

    return run


def _reported(run: Callable[[], None], reporter: Reporter) -> Callable[[], None]:
    def reported() -> None:
        run()
        reporter.advance()

    return reported


def _memory(
    name: str, images: dict[int, int], device: str, reporter: Reporter
) -> dict[str, dict[int, dict[str, int | None]]]:
    reporter.stage("memory, a fresh process a point", len(BACKBONES) * len(images))
    found: dict[str, dict[int, dict[str, int | None]]] = {backbone: {} for backbone in BACKBONES}
    for backbone in BACKBONES:
        for count, image_size in images.items():
            found[backbone][count] = in_fresh_process(_memory_of_a_step, backbone, name, image_size, device)
            reporter.advance()
    return found


def _memory_of_a_step(backbone: str, name: str, image_size: int, device: str) -> dict[str, int | None]:
    """In a process of its own."""
    small = 2 * VAE_FACTOR * preset(name)["patch_size"]
    _step(_build(backbone, name, small).to(device), 1, device)()  # compiles, loads
    step = _step(_build(backbone, name, image_size).to(device), 1, device)
    forget_peak(device)
    before = used_memory(device)
    step()
    after = used_memory(device)
    return {"peak_bytes": after, "step_bytes": None if after is None or before is None else after - before}
