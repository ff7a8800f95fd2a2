"""A bundle's folder in, its files' sizes and checksums out, so that a damaged file is named and not loaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeAlias

from DiffMaCore.bundles.checking import WEIGHTS_FILE, check_bundle, config_file
from DiffMaCore.bundles.component_configs import CLASSES
from DiffMaCore.bundles.config import AGAIN, INDEX_FILE, BundleConfig, read_json
from DiffMaCore.configuring import Bounds, Length, Pattern, Words, build, shown
from DiffMaCore.errors import ModelError
from DiffMaCore.files import write_text

MANIFEST_FILE = "manifest.json"
_FORMAT = 1
_BLOCK = 4 << 20
_OTHER = re.compile(r"(\w[\w-]{0,63}/){0,2}(\w[\w.() -]{0,99}\.(json|md|txt|png|jpg)|LICENSE|NOTICE)", re.ASCII)
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_AGAIN = "fetch the bundle again with `diffma models download` or `diffma models add`"

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and what is done to which file: "checking PATH", "copying PATH"."""


_Sha256: TypeAlias = Annotated[str, Pattern("[0-9a-f]{64}", "64 hexadecimal digits")]


@dataclass(frozen=True)
class Entry:
    """One file: POSIX path inside the bundle, size in bytes, SHA-256 in hex."""

    path: Annotated[str, Words(200, empty=True)]
    size: Annotated[int, Bounds(0, 1 << 44)]
    sha256: _Sha256


@dataclass(frozen=True)
class _Content:
    """The JSON file."""

    format: int
    bundle_sha256: _Sha256
    files: Annotated[tuple[Entry, ...], Length(1, 1000)]


@dataclass(frozen=True)
class Manifest:
    """Every file of a bundle, sorted by path, and one checksum over them all."""

    files: tuple[Entry, ...]

    @property
    def bundle_sha256(self) -> str:
        """SHA-256 over the lines ``sha256 size path`` of all files."""
        text = "".join(f"{entry.sha256} {entry.size} {entry.path}\n" for entry in self.files)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def total(self) -> int:
        """Bytes of all listed files."""
        return sum(entry.size for entry in self.files)


def write_manifest(folder: Path) -> Manifest:
    """List every file of ``folder`` in its ``manifest.json`` (replaced in one step) and return the list.

    Raises ModelError when the folder is no bundle or holds what a bundle must not: a symlink, or a file that
    could run code when read (pickles, Python).
    """
    folder = Path(folder)
    check_bundle(folder)
    paths = [path for path in _walk(folder) if path != MANIFEST_FILE]
    for path in paths:
        _check_name(path, str(folder))
    manifest = Manifest(tuple(Entry(path, (folder / path).stat().st_size, sha) for path, sha in hashed(folder, paths)))
    files = [vars(entry) for entry in manifest.files]
    content = {"format": _FORMAT, "bundle_sha256": manifest.bundle_sha256, "files": files}
    write_text(folder / MANIFEST_FILE, json.dumps(content, indent=1) + "\n")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle folder; raises ModelError when it is absent, damaged or unsafe."""
    path = Path(folder) / MANIFEST_FILE
    if not path.exists():
        raise ModelError(
            f"{folder} has no {MANIFEST_FILE}, so its files cannot be checked: {_AGAIN}, or save your own"
            " model with DiffMaPipeline.save_pretrained, which writes one."
        )
    return parse_manifest(read_json(path, f"{folder} cannot be checked"), str(folder))


def parse_manifest(content: dict[str, Any], where: str) -> Manifest:
    """A manifest out of its JSON object; ``where`` names the bundle in errors (ModelError)."""
    if content.get("format") != _FORMAT or content["format"] is True:
        raise ModelError(
            f"{where} has a {MANIFEST_FILE} of an unknown format: update DiffMaCore or fetch the bundle again."
        )
    manifest = Manifest(build(_Content, content, f"{where}: {MANIFEST_FILE}", ModelError, AGAIN).files)
    for entry in manifest.files:
        _check_name(entry.path, where)
    if len({entry.path.lower() for entry in manifest.files}) != len(manifest.files):
        raise ModelError(f"{where} is refused: its {MANIFEST_FILE} lists a file twice; {_AGAIN}.")
    if manifest.bundle_sha256 != content.get("bundle_sha256"):
        raise ModelError(f"{where} has an altered {MANIFEST_FILE}: {_AGAIN}.")
    if INDEX_FILE not in {entry.path for entry in manifest.files}:
        raise ModelError(f"{where} is not a model bundle: its {MANIFEST_FILE} lists no {INDEX_FILE}.")
    return manifest


def verify(folder: Path, progress: Progress | None = None) -> BundleConfig:
    """Read every file of a bundle, compare it with the manifest, check what it says; returns its configuration.

    Raises ModelError naming the first truncated, altered, missing or unlisted file and the remedy. Files that
    desktops drop into folders (.DS_Store and the like) are ignored: nothing reads them. Raises ModelError as well as
    :func:`~DiffMaCore.bundles.checking.check_bundle` does.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    present = set(_walk(folder)) - {MANIFEST_FILE}
    for entry in manifest.files:
        _check_size(folder / entry.path, entry)
    unlisted = sorted(present - {entry.path for entry in manifest.files})
    if unlisted:
        raise ModelError(f"{folder / unlisted[0]} does not belong to the bundle: remove it, or {_AGAIN}.")
    try:
        altered = first_difference(folder, {entry.path: entry.sha256 for entry in manifest.files}, progress)
    except OSError as error:
        raise ModelError(
            f"{error.filename} cannot be read ({error.strerror or error}): check its rights and its disk."
        ) from None
    if altered:
        raise ModelError(f"{folder / altered} was altered (its checksum differs): {_AGAIN}.")
    return check_bundle(folder)[0]


def _check_size(path: Path, entry: Entry) -> None:
    if not path.is_file():
        raise ModelError(f"{path} is missing: {_AGAIN}.")
    size = path.stat().st_size
    if size < entry.size:
        raise ModelError(f"{path} is truncated ({size} of {entry.size} bytes): {_AGAIN}.")
    if size > entry.size:
        raise ModelError(f"{path} was altered ({size} bytes where {entry.size} were listed): {_AGAIN}.")


def bundle_checksum(folder: Path) -> str:
    """The one checksum over all files as the manifest states it (the files themselves are not read)."""
    return read_manifest(folder).bundle_sha256


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hex."""
    return next(hashed(path.parent, [path.name]))[1]


def first_difference(folder: Path, checksums: Mapping[str, str], progress: Progress | None = None) -> str | None:
    """The first file of ``folder`` that is not what ``checksums`` say; None when all are."""
    return next((path for path, found in hashed(folder, checksums, progress) if found != checksums[path]), None)


def hashed(
    folder: Path, paths: Iterable[str], progress: Progress | None = None, copy_to: Path | None = None
) -> Iterator[tuple[str, str]]:
    """Each of ``paths`` (POSIX, relative) and the SHA-256 of what was read of it, on the way copied to a folder.

    Raises OSError, whose ``filename`` is set, when a file cannot be read or written.
    """
    paths = list(paths)
    total, done = sum((folder / path).stat().st_size for path in paths), 0
    for path in paths:
        digest = hashlib.sha256()
        if copy_to:
            (copy_to / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            with (folder / path).open("rb") as read, (copy_to / path).open("wb") if copy_to else nullcontext() as copy:
                while block := read.read(_BLOCK):
                    digest.update(block)
                    if copy:
                        copy.write(block)
                    done += len(block)
                    if progress:
                        progress(done, total, f"{'copying' if copy else 'checking'} {path}")
        except OSError as error:
            error.filename = error.filename or str(folder / path)
            raise
        if copy_to:
            shutil.copystat(folder / path, copy_to / path)
        yield path, digest.hexdigest()


def is_clutter(path: str) -> bool:
    """Whether a path is what desktops drop into folders and zips (.DS_Store, Thumbs.db, __MACOSX)."""
    parts = PurePosixPath(path).parts
    return parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini") or parts[0] == "__MACOSX"


def check_inside(path: str, where: str) -> None:
    """Raise ModelError when ``path`` is not a plain relative POSIX path that stays inside its folder."""
    odd = set(path.split("/")) & {"", ".", ".."} or re.search(r'[\\:*?"<>|\x00-\x1f]', path)
    if odd or not path.isprintable() or len(path) > 200:
        raise ModelError(
            f"{where} is refused: it holds {shown(path)}, a path that is too long or could lie outside of the bundle."
        )


def is_reserved(name: str) -> bool:
    """Whether a file cannot be called so everywhere (Windows' devices)."""
    return bool(_RESERVED.fullmatch(name))


def _check_name(path: str, where: str) -> None:
    """Raise ModelError where ``path`` is none that a bundle may hold: nothing that could run code when it is read."""
    check_inside(path, where)
    component, _, name = path.rpartition("/")
    known = (config_file(component), WEIGHTS_FILE) if component in CLASSES else None
    good = name in known if known else _OTHER.fullmatch(path) and path.split("/")[0] not in CLASSES
    if not good or any(map(is_reserved, path.split("/"))) or path == MANIFEST_FILE:
        raise ModelError(
            f"{where} is refused: {shown(path)} is no file of a bundle (configurations, weights as safetensors,"
            f" text and pictures; nothing that could run code when read){AGAIN}."
        )


def _walk(folder: Path) -> list[str]:
    """POSIX paths of all files, sorted; symlinks are refused since they can leave the folder."""
    found = []
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(root) / name
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise ModelError(
                    f"{path} is a symlink, pipe or device, which a bundle must not hold: copy the file itself there."
                )
        found += [(Path(root) / name).relative_to(folder).as_posix() for name in names]
    return sorted(path for path in found if not is_clutter(path))
