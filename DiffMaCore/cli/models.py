"""``diffma models``: list, add, download, verify, complete and remove model bundles."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

    from DiffMaCore.bundles.store import ModelEntry


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Register ``models`` and its actions on an argparse subparsers object."""
    parser = subparsers.add_parser("models", help="list, add, download, verify and remove models")
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
    complete = action("complete", "add the VAE or image encoder that an imported model lacks")
    complete.add_argument("model", metavar="NAME|FOLDER")
    complete.add_argument("--vae", metavar="FOLDER|ID", help="Stable Diffusion VAE in diffusers' layout")
    complete.add_argument("--image-encoder", metavar="FOLDER|ID", help="BiomedCLIP in open_clip's layout")
    action("path", "print the folder that holds installed models (DIFFMA_HOME moves it)")
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
    }
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import RESEARCH_ONLY, store

    entries = store.list_models()
    if args.json:
        print(json.dumps({"models": [e.to_dict() for e in entries], "research_only": RESEARCH_ONLY}, indent=1))
        return 0
    if not entries:
        print("No models are installed: get one with `diffma models add PATH` or `diffma models download ID`.")
    rows = [(e.name, e.anatomy, e.size, _megabytes(e.bytes), e.source, _title(e)) for e in entries]
    widths = [max(len(row[i]) for row in rows) for i in range(5)] if rows else []
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]))
    print(RESEARCH_ONLY)
    return 0


def _show(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import RESEARCH_ONLY, store
    from DiffMaCore.bundles.card import card_text
    from DiffMaCore.bundles.config import read_config

    folder = store.resolve(args.model)
    config = read_config(folder)
    entry = store.describe(args.model, folder)
    if args.json:
        content = {**entry.to_dict(), "bundle": config.to_dict(), "research_only": RESEARCH_ONLY}
        print(json.dumps(content, indent=1))
        return 0
    print(card_text(config).split("---\n", 2)[2].strip())
    scan_order = store.read_component_config(folder, "denoiser").get("scan_order", "spiral")
    print(f"\nDenoiser: {entry.size}, scan order {scan_order}")
    print(f"Folder: {folder} ({_megabytes(entry.bytes)}, from: {entry.source})")
    return 0


def _add(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import store

    with _ProgressBar() as bar:
        folder = store.add(args.path, args.name, bar.show)
    return _installed(folder)


def _download(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import hub

    with _ProgressBar() as bar:
        folder = hub.download(args.source, args.revision, args.name, bar.show)
    return _installed(folder)


def _verify(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import store
    from DiffMaCore.errors import ModelError

    if args.model:
        with _ProgressBar() as bar:
            folder = store.verify_installed(args.model, bar.show)
        print(f"{args.model}: every file in {folder} is as it should be.")
        return 0
    damaged = 0
    for name in store.installed_names():
        try:
            with _ProgressBar() as bar:
                store.verify_installed(name, bar.show)
            print(f"{name}: sound")
        except ModelError as error:
            damaged += 1
            print(f"{name}: {error}", file=sys.stderr)
    return 2 if damaged else 0


def _remove(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import store

    print(f"Removed {args.model} ({_megabytes(store.remove(args.model))}).")
    return 0


def _complete(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles import store
    from DiffMaCore.bundles.import_released import complete_bundle

    folder = store.resolve(args.model)
    config = complete_bundle(folder, args.vae, args.image_encoder)
    if config.missing:
        print(f"Still missing: {', '.join(config.missing)}. Run `{config.completing_command(args.model)}`.")
        return 0
    print(f"{args.model} is complete: use it with `diffma convert INPUT OUTPUT --model {args.model}`.")
    return 0


def _path(args: argparse.Namespace) -> int:
    from DiffMaCore.bundles.home import models_folder

    print(models_folder())
    return 0


def _installed(folder: Path) -> int:
    from DiffMaCore.bundles import RESEARCH_ONLY
    from DiffMaCore.bundles.config import read_config

    config = read_config(folder)
    print(f"Installed {folder.name} ({config.title}) in {folder}.")
    if config.missing:
        print(f"It is incomplete: finish it with `{config.completing_command(folder.name)}`.")
    print(RESEARCH_ONLY)
    return 0


def _title(entry: ModelEntry) -> str:
    if entry.problem:
        return f"DAMAGED: {entry.problem}"
    notes = ["DEMO"] if entry.demo and "DEMO" not in entry.title else []
    notes += [f"incomplete, lacks {' and '.join(entry.missing)}"] if entry.missing else []
    return entry.title + (f" ({'; '.join(notes)})" if notes else "")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


class _ProgressBar:
    """A tqdm bar of bytes on standard error that vanishes when it is done; nothing where that is no terminal."""

    def __enter__(self) -> _ProgressBar:
        self._bar: tqdm | None = None
        return self

    def __exit__(self, *reason: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, done: int, total: int, what: str) -> None:
        """``done`` of ``total`` bytes are done; fewer than before means that another pass over them began."""
        from tqdm import tqdm

        if self._bar is None or done < self._bar.n:
            self.__exit__()
            self._bar = tqdm(
                total=total, initial=done, unit="B", unit_scale=True, leave=False, dynamic_ncols=True, disable=None
            )
        self._bar.set_description(what, refresh=False)
        self._bar.update(done - self._bar.n)
