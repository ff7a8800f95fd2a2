"""A zip file in, a bundle's folder out, with suspicion; and back, for another machine."""

from __future__ import annotations

import json
import stat
import zipfile
import zlib
from pathlib import Path

from DiffMaCore.bundles.config import INDEX_FILE
from DiffMaCore.bundles.home import IN_STORE, models_folder
from DiffMaCore.bundles.manifest import (
    MANIFEST_FILE,
    Entry,
    Manifest,
    Progress,
    check_inside,
    is_clutter,
    parse_manifest,
)
from DiffMaCore.errors import ModelError, OutputError
from DiffMaCore.files import require_room

_MOST_FILES = 1000
_MOST_MANIFEST = 4 << 20
_MOST_RATIO = 200
_BLOCK = 1 << 20


def extract(path: Path, target: Path, progress: Progress | None = None) -> None:
    """Unpack a bundle's zip into the new folder ``target``; only files its manifest lists, no longer than
    listed.

    The zip may hold the bundle at its top or inside of one folder. Raises ModelError on a damaged zip, a
    missing manifest, paths that leave the folder, symlinks, encrypted or unlisted files and implausible
    sizes.
    """
    again = "fetch the zip again"
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path.name)
            prefix, manifest = _read_manifest(archive, members, path.name)
            _compare(members, prefix, manifest, path.name)
            require_room(models_folder(), manifest.total, "its files", IN_STORE)
            target.mkdir(parents=True)
            done = 0
            for entry in manifest.files:
                _extract_one(archive, members[prefix + entry.path], target, entry, path.name)
                done += entry.size
                if progress:
                    progress(done, manifest.total, f"unpacking {entry.path}")
            (target / MANIFEST_FILE).write_bytes(archive.read(members[prefix + MANIFEST_FILE]))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path} is not a readable zip or is truncated ({error}): {again}.") from None
    except OSError as error:
        raise OutputError(f"{path} cannot be unpacked ({error}): check the rights and the room on the disk.") from None


def _members(archive: zipfile.ZipFile, where: str) -> dict[str, zipfile.ZipInfo]:
    """Files of the zip by path, after the checks that need no content."""
    infos = archive.infolist()
    if len(infos) > _MOST_FILES:
        raise ModelError(f"{where} is refused: it holds {len(infos)} files, far more than a bundle has.")
    found = {}
    for info in infos:
        check_inside(info.filename.rstrip("/"), where)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ModelError(
                f"{where} is refused: {info.filename} is a symlink or device, which a bundle must not hold."
            )
        if info.is_dir() or is_clutter(info.filename):
            continue
        if info.filename in found:
            raise ModelError(f"{where} is refused: it holds {info.filename} twice.")
        if info.file_size > max(_MOST_RATIO * info.compress_size, _BLOCK):
            raise ModelError(f"{where} is refused: {info.filename} would unpack to an implausible size.")
        found[info.filename] = info
    return found


def _read_manifest(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], where: str) -> tuple[str, Manifest]:
    prefixes = [name[: -len(INDEX_FILE)] for name in members if name.split("/")[-1] == INDEX_FILE]
    prefix = min(prefixes, key=len, default="")
    if not prefixes or prefix.count("/") > 1:
        raise ModelError(f"{where} is not a model bundle: it holds no {INDEX_FILE} at its top or in one folder.")
    info = members.get(prefix + MANIFEST_FILE)
    if info is None or info.file_size > _MOST_MANIFEST:
        raise ModelError(
            f"{where} has no usable {MANIFEST_FILE}, so its files cannot be checked: zip a bundle that"
            " DiffMaPipeline.save_pretrained wrote."
        )
    try:
        content = json.loads(archive.read(info))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ModelError(f"{where} has a damaged {MANIFEST_FILE}: fetch the zip again.")
    return prefix, parse_manifest(content, where)


def _compare(members: dict[str, zipfile.ZipInfo], prefix: str, manifest: Manifest, where: str) -> None:
    listed = {prefix + entry.path: entry for entry in manifest.files}
    for name in members:
        if name not in listed and name != prefix + MANIFEST_FILE:
            raise ModelError(f"{where} is refused: {name} is not in its {MANIFEST_FILE}.")
    for name, entry in listed.items():
        if name not in members:
            raise ModelError(f"{where} lacks {name}, which its {MANIFEST_FILE} lists: fetch the zip again.")
        size = members[name].file_size
        if size != entry.size:
            raise ModelError(f"{where}: {name} has {size} bytes where {entry.size} are listed: fetch the zip again.")


def _extract_one(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, entry: Entry, where: str) -> None:
    path = target / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    left = entry.size
    with archive.open(info) as source, path.open("xb") as out:
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise ModelError(f"{where} is refused: {entry.path} unpacks to more than it declares.")
            out.write(block)
