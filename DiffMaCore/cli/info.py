"""``diffma info``, ``packages`` and ``summary``: this machine in, what it can run and what models cost out."""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from DiffMaCore import __version__
from DiffMaCore.bundles.config import RESEARCH_ONLY
from DiffMaCore.bundles.home import home
from DiffMaCore.cli.commands import Option, answer, command
from DiffMaCore.cli.options import JSON
from DiffMaCore.errors import InputError, ModelError
from DiffMaCore.packages import installed_version

if TYPE_CHECKING:
    from DiffMaCore.baselines.counting import Count

PACKAGES = ("torch", "diffusers", "open_clip_torch", "SimpleITK", "numba", "triton", "mamba-ssm", "causal-conv1d")


@command("info", JSON)
def info(args: argparse.Namespace) -> int:
    """Show devices, memory, selective-scan back ends and installed models, and why one is unavailable."""
    args.reporter.stage("looking at this machine")
    from DiffMaCore.bundles.hub import list_catalogue
    from DiffMaCore.bundles.store import list_models
    from DiffMaCore.devices import choose_device, describe_devices
    from DiffMaCore.diffusion.schedulers import describe_schedulers
    from DiffMaCore.ops.scan import available_backends, choose_backend

    devices = describe_devices()
    for device in devices:
        kind = device["name"].split(":")[0]
        reasons = available_backends(kind)
        device["scan_backends"] = {name: {"available": why is None, "reason": why} for name, why in reasons.items()}
    default = choose_device("auto")
    try:
        catalogue = list_catalogue()
    except ModelError as error:  # a damaged one hides nothing else
        args.reporter.warning(str(error))
        catalogue = []
    facts = {
        "notice": RESEARCH_ONLY,
        "version": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "devices": devices,
        "default_device": str(default),
        "default_scan_backend": choose_backend("auto", default),
        "home": str(home()),
        "models": [entry.to_dict() for entry in list_models()],
        "schedulers": describe_schedulers(),
        "catalogue": catalogue,
    }
    answer(args, facts, _machine_text(facts))
    return 0


def _machine_text(facts: dict[str, Any]) -> str:
    lines = [f"DiffMa {facts['version']}, Python {facts['python']}, {facts['system']}", facts["notice"], "", "packages"]
    lines += [f"  {name:<16} {version or 'not installed'}" for name, version in facts["packages"].items()]
    lines += ["", f"devices (auto takes {facts['default_device']})"]
    for device in facts["devices"]:
        free = device.get("free_bytes")
        memory = f", {free / 2**30:.1f} GiB free" if free else ""
        lines.append(f"  {device['name']:<8} {device['title']}{memory}{_why(device)}")
        if device["available"]:
            lines += [f"    scan by {name:<10}{_why(b) or ' yes'}" for name, b in device["scan_backends"].items()]
    lines += ["", f"models (in {facts['home']})"]
    for model in facts["models"]:
        direction = f"{model['source_modality']} to {model['target_modality']}"
        small = ", with a small decoder" if model["small_decoder"] else ""
        lines.append(f"  {model['name']:<16} {direction}: {model['title']}{small}")
    return "\n".join(lines)


def _why(entry: dict[str, Any]) -> str:
    return "" if entry["available"] else f" (unavailable: {entry['reason']})"


@command(
    "packages",
    Option("--requirements", type=Path, metavar="FILE", help="as pip reads it (default: what DiffMaCore itself needs)"),
)
def packages(args: argparse.Namespace) -> int:
    """Compare this Python's packages with a requirements file; none of them is imported."""
    from DiffMaCore.packages import check_packages

    facts = check_packages(args.requirements)
    lines = [f"Python {facts['python']} ({facts['executable']})"]
    for package in facts["packages"]:
        has = package["installed"] or "not installed"
        needs = "" if package["ok"] else f"; needs {package['required'] or 'any version'}"
        lines.append(f"  {package['name']:<20} {has}{needs}")
    answer(args, facts, "\n".join(lines))
    return 0


LEGEND = """\
params        trainable parameters, all of them
- no Mamba    without everything inside the Mambas: the rule of the paper's Table 1, whose counter hooks modules
Table 1       the paper's values (its rows XXL/2 and XXL/4 are swapped)
MACs          multiply-adds for one slice and one step; "released" projects out once a direction, ours once in all"""


@command(
    "summary",
    Option("--image-size", type=int, default=224, help="side of the slice in pixels (default 224)"),
    JSON,
    page="Print the size of every configuration and the paper's Table 1.\n"
    f"All 15 (S, B, L, XL, XXL x patch 7, 4, 2), by parameters and multiply-adds.\n\n{LEGEND}",
)
def summary(args: argparse.Namespace) -> int:
    """A row a configuration, and what its columns mean."""
    from dataclasses import asdict

    from DiffMaCore.baselines.counting import count_all

    if args.image_size < 8 or args.image_size % 8:
        raise InputError(f"an image of {args.image_size} px cannot be encoded; give a multiple of 8, such as 256")
    counts = count_all(args.image_size)
    answer(args, [asdict(item) for item in counts], f"{_table(counts)}\n\n{LEGEND}")
    return 0


def _table(counts: list[Count]) -> str:
    head = (
        f"{'':>7}{'':>8}{'parameters (M)':>31}   {'multiply-adds (G)':>46}\n"
        f"{'config':>7}{'tokens':>8}{'params':>11}{'- no Mamba':>11}{'Table 1':>9}   "
        f"{'MACs':>10}{'released':>10}{'- no Mamba':>11}{'Table 1 FLOPs':>15}"
    )
    rows = [
        f"{c.name:>7}{c.tokens:>8}{c.parameters / 1e6:>11.3f}{c.parameters_without_mamba / 1e6:>11.3f}"
        f"{_or_dash(c.table_parameters):>9}   {c.macs / 1e9:>10.3f}{c.macs_released / 1e9:>10.3f}"
        f"{c.macs_without_mamba / 1e9:>11.3f}{_or_dash(c.table_flops):>15}"
        for c in counts
    ]
    return "\n".join([head, *rows])


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
