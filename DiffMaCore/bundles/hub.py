"""Bundles from elsewhere: a model hub ("owner/name"), or a zip behind a URL with its checksum."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from DiffMaCore.bundles import store
from DiffMaCore.bundles.archive import extract
from DiffMaCore.bundles.config import INDEX_FILE, read_config
from DiffMaCore.bundles.home import models_folder, require_room, temporary_folder
from DiffMaCore.bundles.manifest import MANIFEST_FILE, Manifest, parse_manifest, sha256_of, write_text
from DiffMaCore.bundles.transfer import ELSEWHERE, Meter, Report, fetch, get_json
from DiffMaCore.errors import ModelError

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB = "https://huggingface.co"


def is_hub_id(text: str) -> bool:
    """Whether ``text`` has the form owner/name and is no folder here."""
    return bool(_REPO.fullmatch(text)) and ".." not in text and not Path(text).exists()


def download(
    source: str,
    revision: str = "main",
    sha256: str | None = None,
    name: str | None = None,
    report: Report | None = None,
) -> Path:
    """Install a bundle from a hub id or a zip's URL and return its folder.

    An interrupted download is continued by the next call. Every file is compared with the bundle's manifest
    and, where the hub tells them, the hub's own checksums; the bundle appears in the store in one step.

    Args:
        source: "owner/name" on the hub (``HF_ENDPOINT`` names another one), or the URL of a zip.
        revision: branch, tag or commit on the hub.
        sha256: checksum of the zip in hex, required for http and https.
        name: name to install by; the bundle's own by default.
        report: called with the progress.

    Raises:
        ModelError: offline, refused, damaged, not a bundle, or the name is taken; nothing is installed then.
        OutputError: no room.
    """
    scheme = urllib.parse.urlparse(source).scheme.lower() if "://" in source else ""
    if scheme == "file":
        return _from_file(source, sha256, name)
    if scheme in ("http", "https"):
        return _from_url(source, sha256, name, report)
    if not is_hub_id(source):
        raise ModelError(
            f"{source!r} is neither a hub id such as owner/name nor a URL of a zip: for a folder or zip on"
            " this machine use `diffma models add PATH`."
        )
    return _from_hub(source, revision, name, report)


def find(name_or_path: str | os.PathLike[str], report: Report | None = None) -> Path:
    """As :func:`DiffMaCore.bundles.store.resolve`, and a hub id that is not installed yet is downloaded
    first.
    """
    text = os.fspath(name_or_path)
    try:
        return store.resolve(text)
    except ModelError:
        if not is_hub_id(text):
            raise
    return download(text, report=report)


def _from_file(url: str, sha256: str | None, name: str | None) -> Path:
    path = Path(urllib.request.url2pathname(urllib.parse.urlparse(url).path))
    if sha256 and path.is_file() and sha256_of(path) != _checked_sha256(sha256):
        raise ModelError(f"{path} has another checksum than the one given: fetch the zip again.")
    return store.add(path, name)


def _from_url(url: str, sha256: str | None, name: str | None, report: Report | None) -> Path:
    if not sha256:
        raise ModelError(
            "A zip from the web needs its checksum: add `--sha256` with the one its publisher states."
        )
    wanted = _checked_sha256(sha256)
    label = Path(urllib.parse.urlparse(url).path).name or "bundle.zip"
    partial = _partial(f"{url} {wanted}")
    fetch(url, partial / "bundle.zip", wanted, Meter(0, report))
    with temporary_folder() as temporary:
        extract(partial / "bundle.zip", temporary / "bundle")
        target = store.install(temporary / "bundle", f"{urllib.parse.urlparse(url).netloc} {label}", name)
    shutil.rmtree(partial, ignore_errors=True)
    return target


def _from_hub(repo: str, revision: str, name: str | None, report: Report | None) -> Path:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ModelError(f"HF_HUB_OFFLINE forbids downloads: unset it, or {ELSEWHERE}.")
    endpoint = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
    token = _token()
    quoted = urllib.parse.quote(revision, safe="")
    info = get_json(f"{endpoint}/api/models/{repo}/revision/{quoted}?blobs=true", token)
    commit, files = str(info.get("sha") or revision), _hub_files(info)
    for needed in (MANIFEST_FILE, INDEX_FILE):
        if needed not in files:
            raise ModelError(
                f"{repo} is not a DiffMa bundle: it has no {needed}; give the id of a DiffMa model."
            )
    partial = _partial(f"{endpoint} {repo} {commit}")
    base = f"{endpoint}/{repo}/resolve/{urllib.parse.quote(commit, safe='')}/"
    manifest = _hub_manifest(base, partial, repo, files, token)
    meter = Meter(manifest.total, report)
    # the index first: a taken name or an unreadable configuration is told before the weights are fetched
    for entry in sorted(manifest.files, key=lambda e: e.path != INDEX_FILE):
        fetch(base + urllib.parse.quote(entry.path), partial / entry.path, entry.sha256, meter, token)
        if entry.path == INDEX_FILE:
            store.choose_name(read_config(partial), name)
            require_room(manifest.total)
    return store.install(partial, f"hub {repo}@{commit[:12]}", name)


def _hub_files(info: dict[str, Any]) -> dict[str, str | None]:
    """Paths in a hub repository, with the SHA-256 of those it keeps as large files."""
    found: dict[str, str | None] = {}
    for sibling in info.get("siblings") or ():
        lfs = sibling.get("lfs") or {}
        found[str(sibling.get("rfilename"))] = lfs.get("sha256") or lfs.get("oid")
    return found


def _hub_manifest(
    base: str, partial: Path, repo: str, files: dict[str, str | None], token: str | None
) -> Manifest:
    content = get_json(base + MANIFEST_FILE, token)
    manifest = parse_manifest(content, repo)
    for entry in manifest.files:
        if entry.path not in files:
            raise ModelError(
                f"{repo} lacks {entry.path}, which its {MANIFEST_FILE} lists: tell its publisher."
            )
        known = files[entry.path]
        if known and known != entry.sha256:
            raise ModelError(
                f"{repo} is refused: {entry.path} on the hub is not the file its {MANIFEST_FILE} lists."
            )
    partial.mkdir(parents=True, exist_ok=True)
    write_text(partial / MANIFEST_FILE, json.dumps(content))
    return manifest


def _partial(key: str) -> Path:
    """Where an unfinished download waits for its continuation."""
    folder = models_folder() / ".partial" / hashlib.sha256(key.encode()).hexdigest()[:16]
    with temporary_folder():
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _checked_sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text.lower()):
        raise ModelError("A SHA-256 checksum has 64 hexadecimal digits: copy it again from its publisher.")
    return text.lower()


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()
