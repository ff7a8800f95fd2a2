"""``diffma benchmark``: this machine in, ratios of speeds out, compared within one process."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from DiffMaCore.cli.commands import GROUPS, Option, answer, command
from DiffMaCore.errors import InputError, OutputError
from DiffMaCore.files import write_json

if TYPE_CHECKING:
    import torch

GROUPS["benchmark"] = """\
Measure how fast this machine is, in ratios of speeds within one process.

scan   every selective-scan back end against the plain reference that keeps a (B, D, L, N) tensor, forward and
       forward with backward; and with what surrounds it in a block (gather, convolution, scatter, gate: "spiral")
       against plain torch
step   one denoising step of a DiffMa against DiT's blocks in the same frame with about as many parameters

What is compared takes turns within one process, and a ratio compares times of the same round: quote ratios, since a
busy machine changes the seconds. `python -m benchmarks`, in the sources, measures more."""

THREADS = Option("--threads", type=int, help="CPU threads (default: torch's own choice)")
JSON_FILE = Option("--json", type=Path, metavar="FILE", help="also write the results to a file")
DEVICE = Option("--device", default="cpu", help="cpu (default), cuda, cuda:1 or mps")
IMAGE_SIZE = Option("--image-size", type=int, default=224, help="side of the slices in pixels (default 224)")


def run_options(rounds: int = 10) -> tuple[Option, ...]:
    """``--device``, ``--threads``, ``--rounds`` and ``--json``."""
    turns = Option("--rounds", type=int, default=rounds, help=f"rounds in which all take turns (default {rounds})")
    return DEVICE, THREADS, turns, JSON_FILE


def size_options(size: str = "B/2") -> tuple[Option, ...]:
    """``--size`` and ``--image-size`` of what is measured."""
    return Option("--size", default=size, help=f"configuration of Table 1 (default {size})"), IMAGE_SIZE


@command(
    "benchmark scan",
    Option("--batch", type=int, default=8, help="samples (default 8)"),
    Option("--channels", type=int, default=1024, help="channels D (default 1024)"),
    Option("--tokens", type=int, default=196, help="tokens L (default 196)"),
    Option("--states", type=int, default=16, help="states N of each channel (default 16)"),
    Option("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the sequences (default float32)"),
    *run_options(),
)
def scan(args: argparse.Namespace) -> int:
    """Selective-scan back ends against the reference."""
    device = begin(args, keep_memory=False)  # in the memory torch gets by default, as the reference always was
    from DiffMaCore.inference.benchmark import benchmark_scan, benchmark_spiral

    asked = (args.batch, args.channels, args.tokens, args.states, device, args.rounds, tell, args.dtype)
    report = benchmark_scan(*asked)
    try:
        report["results"] += benchmark_spiral(*asked)
    except InputError as reason:
        report["unavailable"]["spiral"] = str(reason)
    lines = heading(report)
    lines.append(f"{'median':>41}{'min..max':>21}{'times as fast':>15}{'min..max':>16}{'rel. error':>12}")
    for row in report["results"]:
        lines.append(f"{row['discipline']:<18}{row['method']:<12}{_times(row)}{row['relative_error']:>12.1e}")
    lines += [f"{name} was left out: {reason}" for name, reason in report["unavailable"].items()]
    return finish(args, report, "\n".join(lines))


@command(
    "benchmark step", Option("--batch", type=int, default=8, help="slices (default 8)"), *size_options(), *run_options()
)
def step(args: argparse.Namespace) -> int:
    """A denoising step of DiffMa against DiT."""
    device = begin(args)
    from DiffMaCore.inference.benchmark import benchmark_step

    report = time_steps(benchmark_step, args, device)
    return finish(args, report, step_table(report))


def begin(args: argparse.Namespace, keep_memory: bool = True) -> torch.device:
    """The device, with threads as they were asked for; ``keep_memory``: freed memory is kept, as when it converts.

    Raises InputError, OutputError, BackendError: threads, a file or a device that cannot be, before all measurements.
    """
    from DiffMaCore.devices import choose_device, keep_freed_memory

    if keep_memory:
        keep_freed_memory()
    device = choose_device(args.device)
    set_threads(args.threads)
    for file in filter(None, (args.json, getattr(args, "plot", None))):
        if not file.parent.is_dir():
            raise OutputError(f"the folder of {file} does not exist; make it or choose another file")
    return device


def set_threads(threads: int | None) -> None:
    """Let torch work in so many threads; raises InputError for less than one."""
    import torch

    if threads is None:
        return
    if threads < 1:
        raise InputError(f"{threads} threads cannot work; give at least 1 or leave --threads out")
    torch.set_num_threads(threads)


def finish(args: argparse.Namespace, report: dict[str, Any], text: str) -> int:
    """Answer, and write the results where ``--json`` names a file; raises OutputError."""
    answer(args, report, text)
    if args.json is not None:
        write_json(args.json, report)
    return 0


def time_steps(benchmark: Callable[..., dict[str, Any]], args: argparse.Namespace, device: Any) -> dict[str, Any]:
    """Results of a benchmark of steps; raises InputError for sizes that cannot be."""
    if min(args.batch, args.rounds) < 1:
        raise InputError("a benchmark needs at least one slice and one round")
    try:
        return benchmark(args.size, args.batch, args.image_size, device, args.rounds, tell)
    except ValueError as error:
        raise InputError(str(error)) from None


def tell(line: str) -> None:
    """What goes on, to whoever watches."""
    print(line, file=sys.stderr)


def heading(report: dict[str, Any]) -> list[str]:
    """The lines above a table: the machine, and what was measured."""
    machine, shape = report["machine"], report["shape"]
    load = "" if machine["load_average"] is None else f", load {machine['load_average']:.1f}"
    return [
        f"{machine['processor']}, device {machine['device']}, {machine['threads']} threads{load}, "
        f"torch {machine['torch']}, Python {machine['python']}",
        f"{report['benchmark']}: {', '.join(f'{name} {value}' for name, value in shape.items())},"
        f" {report['rounds']} rounds",
        "",
    ]


def step_table(report: dict[str, Any]) -> str:
    """For people: a row a method."""
    lines = heading(report)
    millions = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in report["parameters"].items())
    lines += [f"parameters: {millions}", f"{'median':>41}{'min..max':>21}{'times as long':>15}{'min..max':>16}"]
    lines += [f"{row['method']:<30}{_times(row)}" for row in report["results"]]
    if "released" in report:
        lines.append(f"released: {report['released']['precision']}, scan {report['released']['scan']}")
    lines += [f"weights: {report['weights']}"] if "weights" in report else []
    return "\n".join(lines)


def _times(row: dict[str, Any]) -> str:
    times = f"{row['min_s'] * 1e3:.2f}..{row['max_s'] * 1e3:.2f}"
    ratios = f"{row['ratio_min']:.1f}..{row['ratio_max']:.1f}"
    return f"{row['median_s'] * 1e3:>8.2f} ms{times:>21}{row['ratio']:>15.2f}{ratios:>16}"
