"""``diffma models``: list, add, download, verify, complete, remove and move model bundles."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from DiffMaCore.cli.reporting import add_progress_option, answer, silence_other_bars

if TYPE_CHECKING:
    from DiffMaCore.bundles.config import BundleConfig
    from DiffMaCore.bundles.store import ModelEntry


SMALL_DECODER_HELP = (
    "a diffusers AutoencoderTiny for the VAE's latents, as a faster, approximate choice beside its decoder; for Stable"
    " Diffusion's VAE madebyollin/taesd (default: none)"
)


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Register ``models`` and its actions on an argparse subparsers object."""
    parser = subparsers.add_parser("models", help="list, show, add, download, verify, complete, remove and move models")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        made.set_defaults(run=run)
        return made

    listing = action("list", "list the installed models")
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = action("show", "show the configuration and model card of one model")
    show.add_argument("model", metavar="NAME|FOLDER")
    show.add_argument("--json", action="store_true", help="print JSON")
    add = action("add", "install a model from a folder or zip on this machine")
    add.add_argument("path", metavar="FOLDER|ZIP", type=Path)
    add.add_argument("--name", help="install it by this name instead of its own")
    download = action("download", "install a model from a hub")
    download.add_argument("source", metavar="OWNER/NAME")
    download.add_argument("--revision", default="main", help="branch, tag or commit on the hub (default main)")
    download.add_argument("--name", help="install it by this name instead of its own")
    verify = action("verify", "compare every file of a model, or of all models, with its checksum")
    verify.add_argument("model", metavar="NAME|FOLDER", nargs="?")
    remove = action("remove", "delete an installed model")
    remove.add_argument("model", metavar="NAME")
    complete = action("complete", "add the VAE or image encoder that an imported model lacks, or a small decoder")
    complete.add_argument("model", metavar="NAME|FOLDER")
    complete.add_argument("--vae", metavar="FOLDER|ID", help="Stable Diffusion VAE in diffusers' layout")
    complete.add_argument("--image-encoder", metavar="FOLDER|ID", help="BiomedCLIP in open_clip's layout")
    complete.add_argument("--small-decoder", metavar="FOLDER|ID", help=SMALL_DECODER_HELP)
    action("path", "print the folder that holds installed models (DIFFMA_HOME moves it)")
    move = action("move", "move all installed models to another folder")
    move.add_argument("folder", metavar="FOLDER", type=Path)
    for each in actions.choices.values():
        add_progress_option(each)
    return parser


def run(args: argparse.Namespace) -> int:
    """Carry out one action; raises DiffMaError, which ``diffma`` prints as one sentence."""
    actions = {
        "list": _list,
        "show": _show,
        "add": _add,
        "download": _download,
        "verify": _verify,
        "remove": _remove,
        "complete": _complete,
        "path": _path,
        "move": _move,
    }
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import RESEARCH_ONLY, store
    from DiffMaCore.bundles.home import home

    entries = store.list_models()
    facts = {"models": [e.to_dict() for e in entries], "home": str(home()), "research_only": RESEARCH_ONLY}
    answer(args, facts, json.dumps(facts, indent=1) if args.json else _table(entries))
    return 0


def _table(entries: list[ModelEntry]) -> str:
    from DiffMaCore.bundles import RESEARCH_ONLY

    if not entries:
        none = "No models are installed: get one with `diffma models add PATH` or `diffma models download ID`."
        return f"{none}\n{RESEARCH_ONLY}"
    rows = [(e.name, e.anatomy, _direction(e), e.size, _megabytes(e.bytes), e.source, _title(e)) for e in entries]
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[6]]) for row in rows]
    return "\n".join([*lines, RESEARCH_ONLY])


def _show(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import RESEARCH_ONLY, store
    from DiffMaCore.bundles.config import read_config
    from DiffMaCore.bundles.writing import card_text

    folder = store.resolve(args.model)
    config = read_config(folder)
    entry = store.describe(args.model, folder)
    card = card_text(config, entry.small_decoder, entry.guided_decoder).split("---\n", 2)[2].strip()
    facts = {**entry.to_dict(), "bundle": config.to_dict(), "research_only": RESEARCH_ONLY}
    facts["card_text"] = card
    text = (
        f"{card}\n\nDenoiser: {entry.size}, scan order {entry.scan_order}\n"
        f"Modes: {', '.join(entry.modes)} (the first is the default)\n"
        f"Small decoder: {_small_decoder(entry)}\n"
        f"Folder: {folder} ({_megabytes(entry.bytes)}, from: {entry.source})"
    )
    answer(args, facts, json.dumps(facts, indent=1) if args.json else text)
    return 0


def _add(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import store

    return _installed(args, store.add(args.path, args.name, args.reporter.bytes_done))


def _download(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import hub

    return _installed(args, hub.download(args.source, args.revision, args.name, args.reporter.bytes_done))


def _verify(args: argparse.Namespace) -> int:
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


def _remove(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import store

    freed = store.remove(args.model)
    answer(args, {"name": args.model, "freed_bytes": freed}, f"Removed {args.model} ({_megabytes(freed)}).")
    return 0


def _complete(args: argparse.Namespace) -> int:
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
    answer(args, bundle_facts(folder, config, args.model), text)
    return 0


def _path(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles.home import home, models_folder

    answer(args, {"home": str(home()), "models": str(models_folder())}, str(models_folder()))
    return 0


def _move(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles.moving import move_models

    home = move_models(args.folder, args.reporter.bytes_done)
    text = f"The models are in {home / 'models'} now: set DIFFMA_HOME to {home}."
    answer(args, {"home": str(home), "models": str(home / "models")}, text)
    return 0


def _installed(args: argparse.Namespace, folder: Path) -> int:
    from DiffMaCore.bundles import RESEARCH_ONLY
    from DiffMaCore.bundles.config import read_config

    config = read_config(folder)
    lines = [f"Installed {folder.name} ({config.title}) in {folder}."]
    if config.missing:
        lines.append(f"It is incomplete: finish it with `{config.completing_command(folder.name)}`.")
    answer(args, bundle_facts(folder, config, folder.name), "\n".join([*lines, RESEARCH_ONLY]))
    return 0


def bundle_facts(folder: Path, config: BundleConfig, name: str) -> dict[str, Any]:
    """What a program wants to know of a bundle that was just made, completed or installed as ``name``."""
    return {
        "name": name,
        "title": config.title,
        "anatomy": config.anatomy,
        "path": str(folder),
        "missing": list(config.missing),
        "completing_command": config.completing_command(name) if config.missing else None,
    }


def _small_decoder(entry: ModelEntry) -> str:
    from DiffMaCore.bundles.config import small_decoder_command

    if entry.small_decoder:
        return "yes, `diffma convert ... --decoder small` takes it"
    return f"none (add one with `{small_decoder_command(entry.name)}`)"


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
