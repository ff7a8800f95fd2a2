"""``diffma info``: what this machine can run, and why not what it cannot."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from typing import TYPE_CHECKING, Any

from DiffMaCore.cli.reporting import add_progress_option, answer
from DiffMaCore.packages import installed_version

if TYPE_CHECKING:
    from DiffMaCore.progress import Reporter

PACKAGES = ("torch", "diffusers", "open_clip_torch", "SimpleITK", "numba", "triton", "mamba-ssm", "causal-conv1d")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "info",
        help="show devices, memory, selective-scan back ends and installed models",
        description="Show devices, memory, selective-scan back ends and installed models, and why one is unavailable.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    add_progress_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    args.reporter.stage("looking at this machine")
    facts = {**gather(), "catalogue": _catalogue(args.reporter)}
    answer(args, facts, json.dumps(facts, indent=2) if args.json else _text(facts))
    return 0


def gather() -> dict[str, Any]:
    """All facts, as JSON holds them."""
    from DiffMaCore import __version__
    from DiffMaCore.bundles.config import RESEARCH_ONLY
    from DiffMaCore.bundles.home import home
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
    return {
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
    }


def _catalogue(reporter: Reporter) -> list[dict[str, Any]]:
    """Models that could be had; a damaged catalogue is told and hides nothing else."""
    from DiffMaCore.bundles.hub import list_catalogue
    from DiffMaCore.errors import ModelError

    try:
        return list_catalogue()
    except ModelError as error:
        reporter.warning(str(error))
        return []


def _text(facts: dict[str, Any]) -> str:
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
