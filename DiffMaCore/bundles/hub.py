"""Bundles from a model hub ("owner/name"): fetched by huggingface_hub, checked, and installed in one step; and what can
be had: the authors' released weights, and what an institution offers its users."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from DiffMaCore.bundles import store
from DiffMaCore.bundles.config import INDEX_FILE, read_config, read_json
from DiffMaCore.bundles.home import CATALOGUE, IN_STORE, alone, home, models_folder
from DiffMaCore.bundles.manifest import MANIFEST_FILE, Manifest, Progress, read_manifest
from DiffMaCore.errors import DiffMaError, ModelError
from DiffMaCore.files import is_full, refusal, require_room

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PACKAGED = Path(__file__).resolve().parent.parent / "data" / CATALOGUE
_TEXTS = ("name", "title", "anatomy", "size")
_ELSEWHERE = "get the bundle as a zip on another machine and install it with `diffma models add ZIP`"


def is_hub_id(text: str) -> bool:
    """Whether ``text`` has the form owner/name and is no folder here."""
    return bool(_REPO.fullmatch(text)) and ".." not in text and "--" not in text and not Path(text).exists()


def hub_source(repo: str, commit: str) -> str:
    """What the record of an installed bundle says of where it came from."""
    return f"hub {repo}@{commit[:12]}"


def find(name_or_path: str | os.PathLike[str], report: Progress | None = None) -> Path:
    """As :func:`DiffMaCore.bundles.store.resolve`, and a hub id that is not installed yet is downloaded first."""
    text = os.fspath(name_or_path)
    try:
        return store.resolve(text)
    except ModelError:
        if not is_hub_id(text):
            raise
    return download(text, report=report)


def download(repo: str, revision: str = "main", name: str | None = None, report: Progress | None = None) -> Path:
    """Install a bundle from the hub (``HF_ENDPOINT`` names another one) and return its folder.

    After an interrupted download the next call fetches the files that are not complete yet. Every file is
    compared with the bundle's manifest, and the manifest with the checksums that the hub itself states.

    Args:
        repo: "owner/name".
        revision: branch, tag or commit.
        name: name to install by; the bundle's own by default.
        report: called with bytes done, bytes in all and what is being done.

    Raises:
        ModelError: offline, refused, damaged, not a bundle, or the name is taken; nothing is installed then.
        OutputError: no room.
    """
    if not is_hub_id(repo):
        raise ModelError(f"{repo!r} is no hub id such as owner/name: install a folder or zip with `diffma models add`.")
    # read by huggingface_hub when it is first imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi

    with _hub_errors(repo, revision):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    commit = str(info.sha)
    files = {file.rfilename: file for file in info.siblings or ()}
    for needed in (MANIFEST_FILE, INDEX_FILE):
        if needed not in files:
            raise ModelError(f"{repo} is not a DiffMa bundle: it has no {needed}; give the id of a DiffMa model.")
    key = hashlib.sha256(f"{repo} {commit}".encode()).hexdigest()[:16]
    with alone(f"download-{key}"):
        # another process may have fetched it since
        installed = store.installed_from(hub_source(repo, commit), name)
        return installed or _fetch(repo, revision, commit, files, models_folder() / ".partial" / key, name, report)


def _fetch(
    repo: str,
    revision: str,
    commit: str,
    files: Mapping[str, Any],
    partial: Path,
    name: str | None,
    report: Progress | None,
) -> Path:
    """Bring what is not in the folder ``partial`` yet, check it, and install it; see :func:`download`."""
    from huggingface_hub import hf_hub_download

    def fetch(path: str, progress: type) -> None:
        with _hub_errors(repo, revision):
            partial.mkdir(parents=True, exist_ok=True)
            hf_hub_download(repo, path, revision=commit, local_dir=partial, tqdm_class=progress)

    # these two first: what is wrong with them, a taken name or too little room is reported before the weights come
    for path in (MANIFEST_FILE, INDEX_FILE):
        fetch(path, byte_bar(None, path))
    with _discarding(partial):
        manifest = read_manifest(partial)
        _compare(manifest, files, repo)
        store.choose_name(read_config(partial), name)
    missing = [entry for entry in manifest.files if not (partial / entry.path).is_file()]
    to_come = sum(entry.size for entry in missing)
    require_room(models_folder(), to_come, f"the files of {repo}", IN_STORE)
    for entry in missing:
        fetch(entry.path, byte_bar(report, entry.path, manifest.total - to_come, manifest.total))
        to_come -= entry.size
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    with _discarding(partial):
        return store.install(partial, hub_source(repo, commit), name, report)


def _compare(manifest: Manifest, files: Mapping[str, Any], repo: str) -> None:
    for entry in manifest.files:
        if entry.path not in files:
            raise ModelError(f"{repo} lacks {entry.path}, which its {MANIFEST_FILE} lists: tell its publisher.")
        there = files[entry.path]
        if there.size not in (None, entry.size) or (there.lfs and there.lfs.sha256 != entry.sha256):
            raise ModelError(
                f"{repo} is refused: {entry.path} on the hub is not the file its {MANIFEST_FILE} lists; tell its"
                " publisher."
            )


@contextmanager
def _discarding(partial: Path) -> Iterator[None]:
    """Leave nothing of a refused bundle: the next call must not go on with it."""
    try:
        yield
    except ModelError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def byte_bar(report: Progress | None, what: str, before: int = 0, total: int | None = None) -> type:
    """A tqdm class that draws nothing and reports the bytes that have come, on top of those that came ``before``.

    ``total`` is None where only huggingface_hub knows it.
    """
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # there can be a bar for bytes received, one for bytes written, and one for files
            self._counts = kwargs.get("unit") == "B" and not str(kwargs.get("name")).endswith(".transfer")
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if report and self._counts:
                self.n += n or 0
                most = int(self.total or 0) if total is None else total
                report(min(before + int(self.n), most), most, f"downloading {what}")

    return Bar


@contextmanager
def _hub_errors(repo: str, revision: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence with cause and remedy."""
    from huggingface_hub.errors import HTTPError

    try:
        yield
    # HTTPError is the base that huggingface_hub's HTTP client has for what the network does; hf_xet raises RuntimeError
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise _explained(repo, revision, error) from None


def _explained(repo: str, revision: str, error: Exception) -> DiffMaError:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, OSError) and (error.filename or is_full(error)):
        return refusal(models_folder(), error, IN_STORE)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ModelError(f"HF_HUB_OFFLINE forbids downloads: unset it, or {_ELSEWHERE}.")
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.GatedRepoError):
        why = "is open to users its owner admits only; ask on its page for access, then log in with `hf auth login`"
    elif isinstance(error, errors.RevisionNotFoundError):
        why = f"has no revision {revision!r}; check `--revision`"
    elif isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        why = f"is not on the hub (HTTP {status}); check the spelling, or log in with `hf auth login` if it is private"
    elif status in (401, 403):
        why = f"is refused by the hub (HTTP {status}); log in with `hf auth login`"
    elif status:
        why = f"cannot be had, the hub answered HTTP {status}; try again later"
    elif isinstance(error, ValueError):
        why = "cannot be had, the server's answer is not a hub's; look for a proxy or a wrong HF_ENDPOINT"
    else:
        cause = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        why = f"cannot be reached or the transfer broke off ({cause}); run the same command again to go on"
    return ModelError(f"{repo} {why}, or {_ELSEWHERE}.")


def list_catalogue() -> list[dict[str, Any]]:
    """Models that can be had: name, title, anatomy, size ("L/2"), state, hub, how and link.

    ``state`` is "downloadable" (``hub`` is its id) or "importable" (the user has the files; ``hub`` is None); ``link``
    is a page about it, or empty. An institution lists its own in ``catalogue.json`` of the user's folder, as
    ``{"models": [{"name", "title", "anatomy", "size", "hub", "how", "link"}]}``.

    Raises:
        ModelError: that file is damaged; the message names it.
    """
    own = home() / CATALOGUE
    entries = [*(_read_catalogue(own) if own.is_file() else []), *_read_catalogue(_PACKAGED)]
    installed = store.list_models()
    names = {model.name for model in installed}
    kinds = {(model.anatomy, model.size.partition(",")[0]) for model in installed if not model.demo}
    sources = tuple(model.source for model in installed)

    def is_installed(entry: dict[str, Any]) -> bool:
        if entry["hub"]:
            return any(source.startswith(f"hub {entry['hub']}@") for source in sources)
        return entry["name"] in names or (entry["anatomy"], entry["size"]) in kinds

    return [entry for entry in entries if not is_installed(entry)]


def _read_catalogue(path: Path) -> list[dict[str, Any]]:
    content = read_json(path, f"{path} is no catalogue")
    listed = content.get("models")
    if not isinstance(listed, list):
        raise ModelError(f"{path} is no catalogue: it holds no list `models`; correct the file or delete it.")
    common = {key: str(content.get(key, "")) for key in ("how", "link")}
    return [_entry(entry, common, path) for entry in listed]


def _entry(entry: Any, common: dict[str, str], path: Path) -> dict[str, Any]:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) and entry[key] for key in _TEXTS):
        raise ModelError(f"{path} has an entry without {', '.join(_TEXTS)}; correct the file or delete it.")
    hub = entry.get("hub")
    if hub is not None and not (isinstance(hub, str) and is_hub_id(hub)):
        raise ModelError(f"{path} gives {entry['name']} the hub id {hub!r}, which is none such as owner/name.")
    texts = {key: str(entry.get(key) or common[key]) for key in common}
    if hub and not texts["how"]:
        texts["how"] = f"Download it with `diffma models download {hub}`."
    state = "downloadable" if hub else "importable"
    return {**{key: entry[key] for key in _TEXTS}, "state": state, "hub": hub, **texts}
