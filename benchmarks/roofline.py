"""How far a denoising step is from what the machine can do: its arithmetic at the machine's own rates, measured.

On a CPU the roofline is the step's products with weights at the rate of our layers, and its exponentials at the rate of
the scan's. On a GPU, where exponentials are the smaller part, it is the products alone, at the rate of a large one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from DiffMaCore.baselines.counting import count_model, matmuls
from DiffMaCore.errors import InputError
from DiffMaCore.inference.benchmark import machine, random_step, spread, take_turns
from DiffMaCore.models.diffma import DiffMa
from DiffMaCore.ops.dense import dense
from DiffMaCore.presets import preset

BATCH = {"cpu": 8, "cuda": 64}
BACKEND = {"cpu": "numba", "cuda": "triton"}
GPU_STEPS = 10  # in a row, as when it samples: launches then overlap with work
GPU_SIDE, GPU_PRODUCTS = 8192, 10
"""Of the square product whose rate is a GPU's."""

SCANS_OWN = (".x_proj", ".dt_weight")

Work = Callable[[], int]
"""Does some work and returns how much of it, in multiply-adds, exponentials or steps."""


def benchmark_roofline(
    name: str = "L/2",
    batch: int | None = None,
    image_size: int = 224,
    device: str | torch.device = "cpu",
    rounds: int = 5,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Time a denoising step of a random DiffMa in turns with the machine's rates, and compare it with its roofline.

    On a CPU (float32): roofline = multiply-adds of matmuls / their rate + exponentials / their rate. The first rate is
    that of the step's own products with weights, one after the other by our layers, the second that of the scan
    kernels' exp2 in the first cache. The exponentials are the scan's decays and the Mambas' SiLU and softplus. Not in
    the roofline: the scan's and the convolution's multiply-adds, norms, and all that moves data.

    On a GPU (bf16 weights, Triton kernels): roofline = multiply-adds of matmuls / the rate of a large square product.

    Args:
        batch: slices; None is 8, on a GPU 64.

    Returns a dictionary for JSON; ``ratio`` is the step's time over the roofline of the same round, ``share`` each part
    of the roofline over the step's time.

    Raises:
        InputError: a size below 1, or a device that is neither a CPU nor an NVIDIA GPU.
        BackendError: the scan's kernels cannot run here.
        ValueError: an unknown size, or sizes that do not divide.
    """
    kind = torch.device(device).type
    if kind not in BATCH:
        raise InputError(f"there is no roofline for {kind}; use --device cpu or cuda")
    batch = BATCH[kind] if batch is None else batch
    if min(batch, rounds) < 1:
        raise InputError("a benchmark needs at least one slice and one round; leave them out for the defaults")
    torch.manual_seed(0)
    model = DiffMa(**preset(name, image_size)).eval().to(device)
    if kind == "cuda":
        model = model.bfloat16()
    model.set_scan_backend(BACKEND[kind])
    counted = count_model(model, name)
    amounts = {"matmuls": batch * counted.macs_matmul}
    if kind == "cuda":
        works = {"step": _steps(model, batch, GPU_STEPS), "matmuls": _square_products(model.positions)}
    else:
        from benchmarks.exponentials import take_exponentials

        amounts |= {"decays": batch * counted.decays, "activations": batch * counted.activations}
        exponentials = amounts["decays"] + amounts["activations"]
        works = {
            "step": _steps(model, batch, 1),
            "matmuls": _own_products(model, batch),
            "exponentials": lambda: take_exponentials(exponentials),
        }
    progress(f"{name} at {model.tokens} tokens, batch {batch}: {rounds} rounds of {', '.join(works)}")
    paces = _paces(works, rounds, device)
    steps = paces.pop("step")
    times = {
        part: [amount * pace for pace in paces["matmuls" if part == "matmuls" else "exponentials"]]
        for part, amount in amounts.items()
    }
    rooflines = [sum(parts) for parts in zip(*times.values(), strict=True)]
    return {
        "benchmark": "roofline",
        "machine": machine(device),
        "shape": {"size": name, "image_size": image_size, "tokens": model.tokens, "batch": batch},
        "precision": "bf16" if kind == "cuda" else "fp32",
        "scan": BACKEND[kind],
        "rounds": rounds,
        "counts": amounts,
        "left_out": {"scan": batch * counted.macs_scan},
        "rates": {what: spread([1 / pace for pace in values]) for what, values in paces.items()},
        "step": spread(steps),
        "roofline": spread(rooflines),
        "parts": {part: spread(seconds) for part, seconds in times.items()},
        "share": {part: spread(_over(seconds, steps)) for part, seconds in times.items()},
        "ratio": spread(_over(steps, rooflines)),
    }


def _over(seconds: list[float], others: list[float]) -> list[float]:
    return [one / other for one, other in zip(seconds, others, strict=True)]


def _paces(works: dict[str, Work], rounds: int, device: str | torch.device) -> dict[str, list[float]]:
    """Seconds for one unit of each work, round by round."""
    done: dict[str, int] = {}

    def turn(name: str) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode():
                done[name] = works[name]()

        return run

    seconds = take_turns({name: turn(name) for name in works}, rounds, device)
    return {name: [taken / done[name] for taken in seconds[name]] for name in works}


def _steps(model: DiffMa, batch: int, count: int) -> Work:
    """A few denoising steps of random numbers."""
    inputs = random_step(model, batch)

    def work() -> int:
        for _ in range(count):
            model(*inputs)
        return count

    return work


def _own_products(model: DiffMa, batch: int) -> Work:
    """The step's products with weights, but for the narrow ones that give a scan its steps, B and C: its kernel may
    compute these itself, and the roofline takes them at the rate of the others."""
    products = [product for product in matmuls(model) if not product.name.endswith(SCANS_OWN)]
    generator = torch.Generator().manual_seed(0)
    shapes = {(batch * product.rows, product.weight.shape[1]) for product in products}
    inputs = {shape: torch.randn(shape, generator=generator) for shape in shapes}

    def work() -> int:
        for product in products:
            dense(inputs[batch * product.rows, product.weight.shape[1]], product.weight)
        return batch * sum(product.macs for product in products)

    return work


def _square_products(like: Tensor) -> Work:
    a, b = (torch.randn((GPU_SIDE, GPU_SIDE), device=like.device, dtype=like.dtype) for _ in range(2))

    def work() -> int:
        for _ in range(GPU_PRODUCTS):
            torch.mm(a, b)
        return GPU_PRODUCTS * GPU_SIDE**3

    return work
