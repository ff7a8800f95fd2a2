"""The catalogue in, models that could be installed out: the authors' weights, and what an institution offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from DiffMaCore.bundles import store
from DiffMaCore.bundles.config import read_json
from DiffMaCore.bundles.home import home
from DiffMaCore.bundles.hub import is_hub_id
from DiffMaCore.errors import ModelError

FILE = "catalogue.json"
_PACKAGED = Path(__file__).resolve().parent.parent / "data" / FILE
_TEXTS = ("name", "title", "anatomy", "size")


def list_catalogue() -> list[dict[str, Any]]:
    """Models that can be had: name, title, anatomy, size ("L/2"), state, hub, how and link.

    ``state`` is "downloadable" (``hub`` is its id) or "importable" (the user has the files; ``hub`` is None); ``link``
    is a page about it, or empty. An institution lists its own in ``catalogue.json`` of the user's folder, as
    ``{"models": [{"name", "title", "anatomy", "size", "hub", "how", "link"}]}``.

    Raises:
        ModelError: that file is damaged; the message names it.
    """
    own = home() / FILE
    entries = [*(_read(own) if own.is_file() else []), *_read(_PACKAGED)]
    installed = store.list_models()
    names = {model.name for model in installed}
    kinds = {(model.anatomy, model.size.partition(",")[0]) for model in installed if not model.demo}
    sources = tuple(model.source for model in installed)

    def is_installed(entry: dict[str, Any]) -> bool:
        if entry["hub"]:
            return any(source.startswith(f"hub {entry['hub']}@") for source in sources)
        return entry["name"] in names or (entry["anatomy"], entry["size"]) in kinds

    return [entry for entry in entries if not is_installed(entry)]


def _read(path: Path) -> list[dict[str, Any]]:
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
