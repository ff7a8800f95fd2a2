"""Installed bundles: a user folder that can be moved (``DIFFMA_HOME``), and the demo inside the package.

Nothing stored there holds an absolute path, so the folder works wherever it is put.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from DiffMaCore.bundles.archive import extract
from DiffMaCore.bundles.config import (
    COMPONENTS,
    GUIDED_DECODER,
    INDEX_FILE,
    SMALL_DECODER,
    BundleConfig,
    has_component,
    nearest,
    read_config,
    read_json,
)
from DiffMaCore.bundles.copying import copy_files
from DiffMaCore.bundles.home import models_folder, require_room, temporary_folder
from DiffMaCore.bundles.manifest import MANIFEST_FILE, Progress, bundle_checksum, read_manifest, verify, write_text
from DiffMaCore.errors import DiffMaError, ModelError, OutputError
from DiffMaCore.presets import size_name

DEMO = "demo"
_BUNDLED = Path(__file__).resolve().parent.parent / "data"
_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"com{i}" for i in range(10)),
    *(f"lpt{i}" for i in range(10)),
}


@dataclass(frozen=True)
class ModelEntry:
    """One line of ``diffma models list``; ``problem`` tells why a damaged bundle cannot be read."""

    name: str
    title: str
    anatomy: str
    size: str
    demo: bool
    bytes: int
    path: str
    source: str
    missing: tuple[str, ...] = ()
    problem: str | None = None
    source_modality: str = "?"
    target_modality: str = "?"
    small_decoder: bool = False
    guided_decoder: bool = False
    modes: tuple[str, ...] = ("sample",)
    family: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def bundled_names() -> list[str]:
    """Bundles inside of the package: "demo", and those of its other contrasts."""
    return sorted(path.parent.name for path in _BUNDLED.glob(f"{DEMO}*/{INDEX_FILE}"))


def is_bundled(folder: Path) -> bool:
    """Whether a bundle's folder lies inside of the package."""
    return folder.resolve().parent == _BUNDLED


def installed_names() -> list[str]:
    """Names that :func:`resolve` knows: those inside of the package, then installed bundles in alphabetical order."""
    folder = models_folder()
    inside = folder.iterdir() if folder.is_dir() else ()
    found = sorted(path.name for path in inside if path.is_dir() and not path.name.startswith("."))
    return bundled_names() + found


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """Folder of a bundle given as "demo", an installed name, the hub id it came from, or a folder.

    The files are not checked here (see :func:`DiffMaCore.bundles.manifest.verify`). Raises ModelError that
    lists what is installed and the nearest name when there is no such bundle.
    """
    text = os.fspath(name_or_path)
    names = installed_names()
    bundled = bundled_names()
    text = next((name for name in names if name not in bundled and _is_from(models_folder() / name, text)), text)
    if text in names:
        return (_BUNDLED if text in bundled else models_folder()) / text
    path = Path(text).expanduser()
    if path.is_dir():
        read_config(path)
        return path
    if path.is_file():
        raise ModelError(f"{text} is a file, not a bundle folder: install a zip with `diffma models add {text}`.")
    have = ", ".join(names) or "none"
    close = nearest(text, names)
    hint = f"did you mean {close!r}? " if close else ""
    raise ModelError(
        f"There is no model {text!r}: {hint}Installed are {have}; get another with `diffma models add PATH`"
        " or `diffma models download ID`."
    )


def list_models() -> list[ModelEntry]:
    """All installed bundles, the demo first; a damaged one is listed with its problem instead of hidden."""
    return [describe(name, resolve(name)) for name in installed_names()]


def describe(name: str, folder: Path) -> ModelEntry:
    """What ``diffma models list`` says of one bundle folder; its weights are not read."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    known: dict[str, Any] = {
        "name": name,
        "bytes": sum(path.stat().st_size for path in files),
        "path": str(folder),
        "source": "ships with DiffMaCore" if is_bundled(folder) else _source(folder).get("source", "unknown"),
    }
    try:
        config = read_config(folder)
        size = _size(folder)
    except ModelError as error:
        return ModelEntry(title="damaged", anatomy="?", size="?", demo=False, problem=str(error), **known)
    return ModelEntry(
        title=config.title,
        anatomy=config.anatomy,
        size=size,
        demo=config.demo,
        missing=config.missing,
        source_modality=config.source_modality,
        target_modality=config.target_modality,
        small_decoder=has_component(folder, SMALL_DECODER),
        guided_decoder=has_component(folder, GUIDED_DECODER),
        modes=config.modes,
        family=config.family,
        **known,
    )


def verify_installed(name_or_path: str, progress: Progress | None = None) -> Path:
    """Check every file of a bundle, and for an installed one that the list of files is still the one it came
    with.

    Raises ModelError naming the damaged file and the remedy.
    """
    folder = resolve(name_or_path)
    verify(folder, progress)
    came_with = _source(folder).get("bundle_sha256")
    if came_with and came_with != bundle_checksum(folder):
        raise ModelError(
            f"{folder} is not the bundle that was installed (its {MANIFEST_FILE} was exchanged): remove it"
            f" with `diffma models remove {folder.name}` and fetch it again."
        )
    return folder


def remove(name: str) -> int:
    """Delete an installed bundle and return the bytes freed; never anything outside of the user folder.

    Raises ModelError for the demo, a path, or an unknown name.
    """
    if name in bundled_names():
        raise ModelError("The demo ships inside of the package and stays: only bundles you installed can be removed.")
    target = models_folder() / name
    if name not in installed_names() or target.is_symlink():
        resolve(name)
        raise ModelError(f"{name} is not in {models_folder()}: delete that folder yourself if you want it gone.")
    freed = describe(name, target).bytes
    with temporary_folder() as bin_:
        target.rename(bin_ / name)
    _source_file(target).unlink(missing_ok=True)
    return freed


def choose_name(config: BundleConfig, name: str | None) -> str:
    """The name a bundle is to be installed by: ``name``, else its own.

    Raises ModelError when the name cannot be a folder's everywhere, is reserved or is taken.
    """
    chosen = name or config.name
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?", chosen):
        raise ModelError(
            f"A model cannot be called {chosen!r}: give `--name` up to 64 letters, digits, dots, dashes or underscores."
        )
    if chosen.lower().split(".")[0] in _RESERVED.union(bundled_names()):
        raise ModelError(f"The name {chosen!r} is reserved: give another one with `--name`.")
    taken = {other.lower() for other in installed_names()}
    if chosen.lower() in taken:
        raise ModelError(
            f"A model called {chosen!r} is installed already: remove it with `diffma models remove {chosen}`"
            " or give another `--name`."
        )
    return chosen


def install(folder: Path, source: str, name: str | None = None, progress: Progress | None = None) -> Path:
    """Verify a bundle that lies in :func:`temporary_folder` and move it into the store in one step."""
    verify(folder, progress)
    chosen = choose_name(read_config(folder), name)
    target = models_folder() / chosen
    folder.rename(target)
    record(target, source)
    return target


def record(folder: Path, source: str | None = None) -> None:
    """Note beside an installed bundle where it came from and its checksum; elsewhere nothing is noted.

    Without ``source`` the one noted before is kept (the bundle was completed).
    """
    if folder.parent == models_folder():
        known = {"source": source or _source(folder).get("source", "unknown")}
        known["bundle_sha256"] = bundle_checksum(folder)
        write_text(_source_file(folder), json.dumps(known, indent=1) + "\n")


def add(path: Path, name: str | None = None, progress: Progress | None = None) -> Path:
    """Install a bundle from a folder or a zip and return its folder; the original stays untouched.

    Raises ModelError when it is no bundle, has no manifest, holds damaged or unsafe files, or its name is
    taken; OutputError when there is no room.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ModelError(f"{path} does not exist: give the folder or zip of a bundle.")
    with temporary_folder() as temporary:
        incoming = temporary / "bundle"
        if path.is_dir():
            choose_name(read_config(path), name)
            verify(path, progress)
            _copy(path, incoming, progress)
        else:
            extract(path, incoming, progress)
        return install(incoming, f"{'folder' if path.is_dir() else 'zip'} {path.resolve().name}", name, progress)


def _copy(source: Path, target: Path, progress: Progress | None) -> None:
    manifest = read_manifest(source)
    require_room(manifest.total)
    try:
        copy_files(source, target, [*(entry.path for entry in manifest.files), MANIFEST_FILE], progress)
    except OSError as error:
        raise OutputError(f"{source} cannot be copied to {models_folder()} ({error}): check rights and room.") from None


def _is_from(folder: Path, hub_id: str) -> bool:
    return "/" in hub_id and str(_source(folder).get("source")).startswith(f"hub {hub_id}@")


def _source_file(folder: Path) -> Path:
    return folder.with_name(folder.name + ".source.json")


def _source(folder: Path) -> dict[str, Any]:
    if folder.parent != models_folder():
        return {"source": "folder"}
    try:
        return read_json(_source_file(folder), str(folder))
    except DiffMaError:
        return {}


def read_component_config(folder: Path, component: str) -> dict[str, Any]:
    """A component's ``config.json``."""
    return read_json(folder / component / "config.json", f"{folder} is damaged")


def _size(folder: Path) -> str:
    """Such as "B/2, latent 28" for people, out of the denoiser's configuration."""
    config = read_component_config(folder, COMPONENTS[0])
    try:
        name = size_name(config["width"], config["depth"], config["patch_size"])
        return f"{name}, latent {config['latent_size']}"
    except KeyError as error:
        raise ModelError(f"{folder} is damaged: its denoiser's config.json lacks {error}.") from None
