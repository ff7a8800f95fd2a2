"""``diffma models`` and ``import-released``: bundles, archives, hubs or checkpoints in, installed models out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from DiffMaCore.bundles.config import RESEARCH_ONLY, BundleConfig, read_config, small_decoder_command
from DiffMaCore.bundles.home import home, models_folder
from DiffMaCore.cli.commands import GROUPS, Option, answer, command, silence_other_bars
from DiffMaCore.cli.options import JSON, PARTS

if TYPE_CHECKING:
    from DiffMaCore.bundles.store import ModelEntry

GROUPS["models"] = "List, show, add, download, verify, complete, remove and move models."

INSTALLED = Option("model", metavar="NAME|FOLDER")
NEW_NAME = Option("--name", help="install it by this name instead of its own")


@command("models list", JSON)
def list_models(args: argparse.Namespace) -> int:
    """List the installed models."""
    from DiffMaCore.bundles import store

    entries = store.list_models()
    facts = {"models": [e.to_dict() for e in entries], "home": str(home()), "research_only": RESEARCH_ONLY}
    answer(args, facts, f"{_table(entries)}\n{RESEARCH_ONLY}")
    return 0


def _table(entries: list[ModelEntry]) -> str:
    if not entries:
        return "No models are installed: get one with `diffma models add PATH` or `diffma models download ID`."
    rows = [(e.name, e.anatomy, _direction(e), e.size, _megabytes(e.bytes), e.source, _title(e)) for e in entries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _title(entry: ModelEntry) -> str:
    if entry.problem:
        return f"DAMAGED: {entry.problem}"
    notes = ["DEMO"] if entry.demo and "DEMO" not in entry.title else []
    notes += [f"incomplete, lacks {' and '.join(entry.missing)}"] if entry.missing else []
    return entry.title + (f" ({'; '.join(notes)})" if notes else "")


def _direction(entry: ModelEntry) -> str:
    return "?" if entry.problem else f"{entry.source_modality} to {entry.target_modality}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


@command("models show", INSTALLED, JSON)
def show(args: argparse.Namespace) -> int:
    """Show the configuration and model card of one model."""
    from DiffMaCore.bundles import store
    from DiffMaCore.bundles.writing import card_text

    folder = store.resolve(args.model)
    config = read_config(folder)
    entry = store.describe(args.model, folder)
    card = card_text(config, entry.small_decoder, entry.guided_decoder).split("---\n", 2)[2].strip()
    facts = {**entry.to_dict(), "bundle": config.to_dict(), "research_only": RESEARCH_ONLY, "card_text": card}
    none = f"none (add one with `{small_decoder_command(entry.name)}`)"
    text = (
        f"{card}\n\nDenoiser: {entry.size}, scan order {entry.scan_order}\n"
        f"Modes: {', '.join(entry.modes)} (the first is the default)\n"
        f"Small decoder: {'yes, `diffma convert ... --decoder small` takes it' if entry.small_decoder else none}\n"
        f"Folder: {folder} ({_megabytes(entry.bytes)}, from: {entry.source})"
    )
    answer(args, facts, text)
    return 0


@command("models add", Option("path", metavar="FOLDER|ZIP", type=Path), NEW_NAME)
def add(args: argparse.Namespace) -> int:
    """Install a model from a folder or zip on this machine."""
    from DiffMaCore.bundles import store

    return _installed(args, store.add(args.path, args.name, args.reporter.bytes_done))


@command(
    "models download",
    Option("source", metavar="OWNER/NAME"),
    Option("--revision", default="main", help="branch, tag or commit on the hub (default main)"),
    NEW_NAME,
)
def download(args: argparse.Namespace) -> int:
    """Install a model from a hub."""
    from DiffMaCore.bundles import hub

    return _installed(args, hub.download(args.source, args.revision, args.name, args.reporter.bytes_done))


def _installed(args: argparse.Namespace, folder: Path) -> int:
    config = read_config(folder)
    lines = [f"Installed {folder.name} ({config.title}) in {folder}."]
    if config.missing:
        lines.append(f"It is incomplete: finish it with `{config.completing_command(folder.name)}`.")
    answer(args, _bundle_facts(folder, config, folder.name), "\n".join([*lines, RESEARCH_ONLY]))
    return 0


def _bundle_facts(folder: Path, config: BundleConfig, name: str) -> dict[str, Any]:
    """What a program wants to know of a bundle that was just made, completed or installed as ``name``."""
    return {
        "name": name,
        "title": config.title,
        "anatomy": config.anatomy,
        "path": str(folder),
        "missing": list(config.missing),
        "completing_command": config.completing_command(name) if config.missing else None,
    }


@command("models verify", Option("model", metavar="NAME|FOLDER", nargs="?"))
def verify(args: argparse.Namespace) -> int:
    """Compare every file of a model, or of all models, with its checksum."""
    from DiffMaCore.bundles import store
    from DiffMaCore.errors import ModelError

    if args.model:
        folder = store.verify_installed(args.model, args.reporter.bytes_done)
        text = f"{args.model}: every file in {folder} is as it should be."
        answer(args, {"sound": [args.model], "damaged": []}, text)
        return 0
    sound, damaged = [], []
    for name in store.installed_names():
        try:
            store.verify_installed(name, args.reporter.bytes_done)
            sound.append(name)
        except ModelError as error:
            damaged.append({"name": name, "message": str(error)})
    answer(args, {"sound": sound, "damaged": damaged}, "\n".join(f"{name}: sound" for name in sound))
    for each in damaged:
        print(f"{each['name']}: {each['message']}", file=sys.stderr)
    return 2 if damaged else 0


@command("models remove", Option("model", metavar="NAME"))
def remove(args: argparse.Namespace) -> int:
    """Delete an installed model."""
    from DiffMaCore.bundles import store

    freed = store.remove(args.model)
    answer(args, {"name": args.model, "freed_bytes": freed}, f"Removed {args.model} ({_megabytes(freed)}).")
    return 0


@command("models complete", INSTALLED, *PARTS)
def complete(args: argparse.Namespace) -> int:
    """Add the VAE or image encoder that an imported model lacks, or a small decoder."""
    from DiffMaCore.bundles import store

    folder = store.resolve(args.model)
    args.reporter.stage("completing")
    silence_other_bars()
    from DiffMaCore.inference.import_released import complete_bundle

    config = complete_bundle(folder, args.vae, args.image_encoder, args.small_decoder, args.reporter.bytes_done)
    if config.missing:
        text = f"Still missing: {', '.join(config.missing)}. Run `{config.completing_command(args.model)}`."
    else:
        text = f"{args.model} is complete: use it with `diffma convert INPUT OUTPUT --model {args.model}`."
    answer(args, _bundle_facts(folder, config, args.model), text)
    return 0


@command("models path")
def path(args: argparse.Namespace) -> int:
    """Print the folder that holds installed models (DIFFMA_HOME moves it)."""
    answer(args, {"home": str(home()), "models": str(models_folder())}, str(models_folder()))
    return 0


@command("models move", Option("folder", metavar="FOLDER", type=Path))
def move(args: argparse.Namespace) -> int:
    """Move all installed models to another folder."""
    from DiffMaCore.bundles.moving import move_models

    place = move_models(args.folder, args.reporter.bytes_done)
    text = f"The models are in {place / 'models'} now: set DIFFMA_HOME to {place}."
    answer(args, {"home": str(place), "models": str(place / "models")}, text)
    return 0


def _window(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        window = (float(low), float(high))
    except ValueError:
        window = (0.0, 0.0)
    if not window[0] < window[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is no HU window: write LOW:HIGH, such as -1024:2000")
    return window


def _spacing(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no pixel spacing in mm: write a positive number")
    return value


@command(
    "import-released",
    Option("denoiser", metavar="DENOISER", type=Path, help="the denoiser's checkpoint (.pt)"),
    Option("--embedder", required=True, type=Path, metavar="FILE", help="the embedder's checkpoint"),
    Option("--anatomy", required=True, help="what the weights were trained on, such as brain"),
    Option("-o", "--output", required=True, type=Path, metavar="BUNDLE", help="folder to write"),
    *PARTS,
    Option("--weights", choices=("ema", "model"), default="ema", help="which weights (default ema)"),
    Option("--pixel-spacing", type=_spacing, default=1.0, metavar="MM", help="of the training slices (default 1)"),
    Option(
        "--hu-window",
        type=_window,
        default=(-1024.0, 2000.0),
        metavar="LOW:HIGH",
        help="HU window, as --hu-window=-1000:1000 (default -1024:2000, an assumption)",
    ),
    Option("--name", help="the bundle's name (default: that of its folder)"),
)
def import_released(args: argparse.Namespace) -> int:
    """Make a bundle of the weights that the paper's authors released.

    Patch size, latent size, depth and width are read from the weights. The files hold neither the VAE nor the image
    encoder: those are taken from the folders given, or from the hub or its local cache; without them the bundle is
    written incomplete and the command that completes it later is printed.
    """
    args.reporter.stage("importing weights")
    silence_other_bars()
    from DiffMaCore.inference.import_released import import_released

    names = ("anatomy", "name", "weights", "pixel_spacing", "hu_window", "vae", "image_encoder", "small_decoder")
    asked = {name: getattr(args, name) for name in names}
    config = import_released(args.denoiser, args.embedder, args.output, **asked, progress=args.reporter.bytes_done)
    window = "HU window {:g} to {:g}".format(*args.hu_window)
    assumed = f"Assumed, since the authors published neither: {window}, pixels of {args.pixel_spacing:g} mm."
    lines = [f"Wrote {args.output}: {config.title}.", assumed]
    if config.missing:
        lacking = " and ".join(name.replace("_", " ") for name in config.missing)
        lines.append(f"It is INCOMPLETE, the {lacking} could not be had: finish it with")
        lines.append(f"  {config.completing_command(str(args.output))}")
    else:
        lines.append(f"Use it with --model {args.output}, or install it with `diffma models add {args.output}`.")
    facts = _bundle_facts(args.output, config, str(args.output))
    answer(args, {**facts, "assumed": assumed}, "\n".join([*lines, RESEARCH_ONLY]))
    return 0
