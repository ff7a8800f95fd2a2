"""``diffma benchmark``: how fast this machine is, by comparisons within one process."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from DiffMaCore.cli.benchmark_decode import add_decode_parser
from DiffMaCore.cli.benchmark_floor import add_floor_parser
from DiffMaCore.cli.benchmark_input import add_input_parser
from DiffMaCore.cli.benchmark_memory import add_memory_parser
from DiffMaCore.cli.benchmark_options import add_benchmark_options, add_size_options, begin, heading, write_figures
from DiffMaCore.cli.benchmark_processes import add_processes_parser
from DiffMaCore.cli.benchmark_released import add_released_parser
from DiffMaCore.cli.benchmark_sampling import add_sampling_parser
from DiffMaCore.cli.benchmark_volume import add_volume_parser
from DiffMaCore.errors import InputError

EXPLANATION = """\
scan   every selective-scan back end against the plain reference that keeps a (B, D, L, N) tensor, forward and
       forward with backward; and with what surrounds it in a block (gather, convolution, scatter, gate: "spiral")
       against plain torch
step   one denoising step of a DiffMa against DiT's blocks in the same frame with about as many parameters
tokens time and memory of that step at growing numbers of tokens: growth, and where DiffMa overtakes DiT. By default
       slices of 224, 448, 896 and 1792 pixels, several minutes on a CPU; --tokens 196 784 is soon done
cache  a training step on cached latents against the same step that runs VAE (Stable Diffusion's architecture), image
       encoder (ViT-B/16) and Vision Embedder on every slice again, and against one as the released code takes it: it
       encodes, and takes every Mamba's three scans one after the other; all weights random
volume a whole volume with everything that makes a GPU fast (CUDA graph, overlap, bfloat16) and with each of it off
sampling
       schedulers and numbers of steps of a trained experiment against the ODE's solution and the truth
released
       a slice by our sampling against the procedure of the authors' released code: time, and error to the ODE
floor  a denoising step against what the machine can do: the matmuls and exponentials in it, at measured rates
decode a small decoder against Stable Diffusion's VAE, in both memory layouts; all weights random
memory what the parts of a conversion take at most, against batch, size and tokens, beside what is reckoned with
processes
       several processes that share the volumes of one folder against one process
input  slices a second that the prepared data delivers, and how long training steps must be not to wait for them

Contestants take turns within one process, and a ratio compares times of the same round: quote ratios, since a
busy machine changes the seconds."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "benchmark",
        help="measure how fast this machine is, in ratios",
        description="Compare speeds within one process and state the machine.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(title="what to compare", metavar="WHAT", dest="what", required=True)
    scan = kinds.add_parser("scan", help="selective-scan back ends against the reference")
    scan.add_argument("--batch", type=int, default=8, help="samples (default 8)")
    scan.add_argument("--channels", type=int, default=1024, help="channels D (default 1024)")
    scan.add_argument("--tokens", type=int, default=196, help="tokens L (default 196)")
    scan.add_argument("--states", type=int, default=16, help="states N of each channel (default 16)")
    scan.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="of the sequences (default float32)"
    )
    step = kinds.add_parser("step", help="a denoising step of DiffMa against DiT")
    step.add_argument("--batch", type=int, default=8, help="slices (default 8)")
    add_size_options(step)
    tokens = kinds.add_parser("tokens", help="DiffMa against DiT at growing numbers of tokens")
    tokens.add_argument(
        "--tokens", type=int, nargs="+", metavar="N", help="square numbers (default 196 784 3136 12544)"
    )
    tokens.add_argument("--size", default="B/2", help="configuration of Table 1 (default B/2)")
    tokens.add_argument("--at-once", type=int, metavar="N", help="tokens of a batch (default 3136, on a GPU 50176)")
    tokens.add_argument("--plot", type=Path, metavar="PNG", help="also draw time and memory against tokens")
    cache = kinds.add_parser("cache", help="a training step on cached latents against one that encodes each time")
    cache.add_argument("--batch", type=int, default=4, help="slices (default 4)")
    add_size_options(cache)
    add_sampling_parser(kinds)
    add_released_parser(kinds)
    add_floor_parser(kinds)
    add_decode_parser(kinds)
    add_volume_parser(kinds)
    add_memory_parser(kinds)
    add_processes_parser(kinds)
    add_input_parser(kinds)
    for kind, rounds in ((scan, 10), (step, 10), (tokens, 3), (cache, 3)):
        add_benchmark_options(kind, rounds)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # a scan is measured in the memory torch gets by default, as its reference always was
    device = begin(args, keep_memory=args.what != "scan")
    if args.what == "scan":
        figures = _scan(args, device)
        print(_scan_table(figures))
    elif args.what == "tokens":
        figures = _tokens(args, device)
    else:
        figures = _steps(args, device)
        print(_step_table(figures))
    write_figures(args, figures)
    return 0


def _scan(args: argparse.Namespace, device: Any) -> dict[str, Any]:
    from DiffMaCore.benchmark import benchmark_scan
    from DiffMaCore.benchmark_spiral import benchmark_spiral

    asked = (args.batch, args.channels, args.tokens, args.states, device, args.rounds, _tell, args.dtype)
    figures = benchmark_scan(*asked)
    try:
        figures["results"] += benchmark_spiral(*asked)
    except InputError as reason:
        figures["unavailable"]["spiral"] = str(reason)
    return figures


def _steps(args: argparse.Namespace, device: Any) -> dict[str, Any]:
    from DiffMaCore.benchmark import benchmark_step

    if min(args.batch, args.rounds) < 1:
        raise InputError("a benchmark needs at least one slice and one round")
    benchmark: Any = benchmark_step
    if args.what == "cache":
        from DiffMaCore.training.benchmark_cache import benchmark_cache as benchmark
    try:
        return benchmark(args.size, args.batch, args.image_size, device, args.rounds, _tell)
    except ValueError as error:
        raise InputError(str(error)) from None


def _tokens(args: argparse.Namespace, device: Any) -> dict[str, Any]:
    from DiffMaCore.benchmark_tokens import TOKENS, benchmark_tokens

    try:
        counts = args.tokens or TOKENS
        figures = benchmark_tokens(counts, args.size, device, args.rounds, args.at_once, args.reporter)
    except ValueError as error:
        raise InputError(str(error)) from None
    args.reporter.close()
    print(_tokens_table(figures))
    if args.plot is not None:
        from DiffMaCore.training.report.tokens import plot_tokens

        plot_tokens(figures, args.plot)
    return figures


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _scan_table(figures: dict[str, Any]) -> str:
    lines = heading(figures)
    lines.append(f"{'median':>41}{'min..max':>21}{'times as fast':>15}{'min..max':>16}{'rel. error':>12}")
    for row in figures["results"]:
        lines.append(f"{row['discipline']:<18}{row['contestant']:<12}{_times(row)}{row['relative_error']:>12.1e}")
    lines += [f"{name} was left out: {reason}" for name, reason in figures["unavailable"].items()]
    return "\n".join(lines)


def _step_table(figures: dict[str, Any]) -> str:
    lines = heading(figures)
    millions = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in figures["parameters"].items())
    lines += [f"parameters: {millions}", f"{'median':>41}{'min..max':>21}{'times as long':>15}{'min..max':>16}"]
    lines += [f"{row['contestant']:<30}{_times(row)}" for row in figures["results"]]
    if "released" in figures:
        lines.append(f"released: {figures['released']['precision']}, scan {figures['released']['scan']}")
    lines += [f"weights: {figures['weights']}"] if "weights" in figures else []
    return "\n".join(lines)


def _tokens_table(figures: dict[str, Any]) -> str:
    lines = heading(figures)
    millions = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in figures["parameters"].items())
    lines += [
        f"parameters: {millions}; seconds per slice, memory of one slice beyond program and weights",
        f"{'tokens':>7}{'image':>7}{'batch':>6}{'DiffMa':>12}{'DiT':>12}{'ratio':>8}{'min..max':>14}"
        f"{'DiffMa':>12}{'DiT':>12}",
    ]
    for point in figures["points"]:
        ratio = point["ratio"]
        spread = f"{ratio['min']:.2f}..{ratio['max']:.2f}"
        times = "".join(f"{point[system]['median']:>10.4f} s" for system in ("diffma", "dit"))
        memory = "".join(_megabytes(point[system]["step_bytes"]) for system in ("diffma", "dit"))
        place = f"{point['tokens']:>7}{point['image_size']:>7}{point['batch']:>6}"
        lines.append(f"{place}{times}{ratio['median']:>8.2f}{spread:>14}{memory}")
    for system, fits in figures["exponents"].items():
        lines += [
            f"growth exponent of {system}, {fit['tokens'][0]} to {fit['tokens'][-1]} tokens: "
            f"{fit['median']:.2f} ({fit['min']:.2f}..{fit['max']:.2f})"
            for fit in fits
        ]
    return "\n".join([*lines, f"crossover: {figures['crossover']['words']}"])


def _megabytes(count: int | None) -> str:
    return f"{'-':>12}" if count is None else f"{count / 1e6:>9.1f} MB"


def _times(row: dict[str, Any]) -> str:
    times = f"{row['min_s'] * 1e3:.2f}..{row['max_s'] * 1e3:.2f}"
    ratios = f"{row['ratio_min']:.1f}..{row['ratio_max']:.1f}"
    return f"{row['median_s'] * 1e3:>8.2f} ms{times:>21}{row['ratio']:>15.2f}{ratios:>16}"
