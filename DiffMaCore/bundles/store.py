"""Installed bundles: a user folder that can be moved (``DIFFMA_HOME``), and the demo inside the package.

Nothing stored there holds an absolute path, so the folder works wherever it is put.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from DiffMaCore.bundles.archive import extract
from DiffMaCore.bundles.checking import check_bundle
from DiffMaCore.bundles.component_configs import UNetDenoiserConfig
from DiffMaCore.bundles.config import GUIDED_DECODER, INDEX_FILE, SMALL_DECODER, BundleConfig, read_config, read_json
from DiffMaCore.bundles.home import alone, models_folder, require_room, restore, temporary_folder, writing
from DiffMaCore.bundles.manifest import (
    MANIFEST_FILE,
    Progress,
    bundle_checksum,
    hashed,
    is_reserved,
    read_manifest,
    verify,
    write_text,
)
from DiffMaCore.configuring import nearest, shown
from DiffMaCore.errors import DiffMaError, ModelError
from DiffMaCore.presets import size_name

DEMO = "demo"
_BUNDLED = Path(__file__).resolve().parent.parent / "data"


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
    expects_error: bool = False
    scan_order: str = "none"
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
    with writing(folder):
        for saved in folder.glob(".replaced-*"):
            restore(folder / saved.name.removeprefix(".replaced-"))
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
    if text and _kind(path) is None:
        with suppress(OSError, ValueError):  # such as a name that is too long
            restore(path)
    kind = _kind(path)
    if kind == "folder":
        read_config(path)
        return path
    if kind == "zip":
        raise ModelError(f"{text} is a file, not a bundle folder: install a zip with `diffma models add {text}`.")
    have = ", ".join(names[:20]) or "none"
    close = nearest(text, names)
    hint = f"did you mean {close!r}? " if close else ""
    raise ModelError(
        f"There is no model {shown(text)}: {hint}Installed are {have}; get another with `diffma models add PATH`"
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
        config, parts = check_bundle(folder)
    except ModelError as error:
        return ModelEntry(title="damaged", anatomy="?", size="?", demo=False, problem=str(error), **known)
    for key in ("title", "anatomy", "demo", "missing", "source_modality", "target_modality", "modes", "family"):
        known[key] = getattr(config, key)
    denoiser = parts.get("denoiser")
    return ModelEntry(
        size=_size(denoiser),
        small_decoder=SMALL_DECODER in parts,
        guided_decoder=GUIDED_DECODER in parts,
        expects_error=getattr(parts.get(GUIDED_DECODER), "expects_error", False),
        scan_order=getattr(denoiser, "scan_order", "none"),
        **known,
    )


def verify_installed(name_or_path: str, progress: Progress | None = None) -> Path:
    """Check every file of a bundle, and for an installed one that the list of files is still the one it came
    with.

    Raises ModelError naming the damaged file and the remedy.
    """
    folder = resolve(name_or_path)
    verify(folder, progress)
    known = _source(folder)
    came_with = [known.get("bundle_sha256"), *known.get("also", [])]
    if came_with[0] and bundle_checksum(folder) not in came_with:
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
    with temporary_folder() as bin_, writing(target.parent):
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
    if is_reserved(chosen) or chosen.lower().split(".")[0] in bundled_names():
        raise ModelError(f"The name {chosen!r} is reserved: give another one with `--name`.")
    taken = {other.lower() for other in installed_names()}
    if chosen.lower() in taken:
        raise ModelError(
            f"A model called {chosen!r} is installed already: remove it with `diffma models remove {chosen}`"
            " or give another `--name`."
        )
    return chosen


def install(folder: Path, source: str, name: str | None = None, progress: Progress | None = None) -> Path:
    """Verify a bundle that lies in :func:`temporary_folder` and move it into the store in one step.

    Its record is there first: a process that is killed in between leaves a record of nothing.
    """
    config = verify(folder, progress)
    with alone("install"):
        target = models_folder() / choose_name(config, name)
        with writing(target.parent):
            _write_record(target, source, bundle_checksum(folder))
            folder.rename(target)
    return target


def record(folder: Path, source: str | None = None, also: str | None = None) -> None:
    """Note in the folder of an installed bundle where it came from and its checksum; elsewhere nothing is noted.

    Without ``source`` the one noted before is kept (the bundle was completed). ``also`` is the checksum of what is
    about to take its place.
    """
    if folder.parent == models_folder():
        known = source or _source(folder).get("source", "unknown")
        with writing(folder.parent):
            _write_record(folder, known, bundle_checksum(folder), *filter(None, [also]))


def _write_record(target: Path, source: str, *checksums: str) -> None:
    text = json.dumps({"source": source, "bundle_sha256": checksums[0], "also": list(checksums[1:])}, indent=1)
    write_text(_source_file(target), text + "\n")


def add(path: Path, name: str | None = None, progress: Progress | None = None) -> Path:
    """Install a bundle from a folder or a zip and return its folder; the original stays untouched.

    Raises ModelError when it is no bundle, has no manifest, holds damaged or unsafe files, or its name is
    taken; OutputError when there is no room. Then nothing is left behind.
    """
    path = Path(path).expanduser()
    kind = _kind(path)
    if kind is None:
        raise ModelError(f"{_plain(path)} does not exist or is no folder or file: give the folder or zip of a bundle.")
    if kind == "folder":
        choose_name(read_config(path), name)
        verify(path, progress)
    with temporary_folder() as temporary:
        incoming = temporary / "bundle"
        if kind == "folder":
            _copy(path, incoming, progress)
        else:
            extract(path, incoming, progress)
        return install(incoming, f"{kind} {path.resolve().name}", name, progress)


def _kind(path: Path) -> str | None:
    """ "folder" or "zip" (any file); None for what is neither or cannot be looked at."""
    try:
        return "folder" if path.is_dir() else "zip" if path.is_file() else None
    except (OSError, ValueError):
        return None


def _plain(path: Path) -> str:
    """A path as an error shows it, unless it is a riddle or a novel."""
    text = str(path)
    return text if text.isprintable() and len(text) < 300 else shown(text)


def _copy(source: Path, target: Path, progress: Progress | None) -> None:
    manifest = read_manifest(source)
    require_room(manifest.total)
    with writing(models_folder()):
        paths = [*(entry.path for entry in manifest.files), MANIFEST_FILE]
        dict(hashed(source, paths, progress, copy_to=target))


def installed_from(source: str, name: str | None = None) -> Path | None:
    """The installed bundle, called ``name`` if that is given, whose record says that it came from ``source``."""
    places = [models_folder() / found for found in installed_names() if name in (None, found)]
    return next((place for place in places if _source(place).get("source") == source), None)


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


def _size(denoiser: Any) -> str:
    """Such as "B/2, latent 28" for people, out of the denoiser's configuration."""
    if denoiser is None:
        return "?"
    if isinstance(denoiser, UNetDenoiserConfig):
        return f"U-Net {denoiser.channels}, latent {denoiser.latent_size}"
    return f"{size_name(denoiser.width, denoiser.depth, denoiser.patch_size)}, latent {denoiser.latent_size}"
