"""Components and a configuration in, a bundle's folder out, with index, model card and manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from DiffMaCore.bundles.card import write_card
from DiffMaCore.bundles.config import COMPONENTS, INDEX_FILE, OPTIONAL, BundleConfig
from DiffMaCore.bundles.manifest import Manifest, write_manifest, write_text


def write_bundle(folder: Path, config: BundleConfig, components: Mapping[str, Any]) -> Manifest:
    """Write a bundle in diffusers' layout into ``folder`` (made if need be) and return its manifest.

    ``components`` maps denoiser, embedder, vae, image_encoder and scheduler, and small_decoder and guided_decoder where
    there are any, to objects with ``save_pretrained``; those that are absent, but for the last two, must be named in
    ``config.missing``. Weights become safetensors.
    """
    import diffusers

    index: dict[str, Any] = {"_class_name": "DiffMaPipeline", "_diffusers_version": diffusers.__version__}
    index["bundle"] = config.to_dict()
    for name in (*COMPONENTS, *(name for name in OPTIONAL if name in components)):
        index[name] = [None, None] if name in config.missing else class_entry(components[name])
        if name not in config.missing:
            save_component(folder / name, components[name])
    write_index(folder, index)
    return seal(folder, config)


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    """Write ``model_index.json``."""
    write_text(folder / INDEX_FILE, json.dumps(index, indent=2) + "\n")


def seal(folder: Path, config: BundleConfig) -> Manifest:
    """Write the model card and the manifest of a folder whose other files are final.

    Where its components were loaded from, which diffusers notes, is nobody else's business and goes.
    """
    for path in folder.glob("*/config.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_card(folder, config)
    return write_manifest(folder)


def save_component(folder: Path, component: Any) -> None:
    """Save one component; weights as safetensors, never as a pickle."""
    folder.mkdir(parents=True, exist_ok=True)
    component.save_pretrained(folder)


def class_entry(component: Any) -> list[str]:
    """Library and class of a component as ``model_index.json`` states them."""
    module = type(component).__module__
    library = module if module.startswith("DiffMaCore") else module.split(".")[0]
    return [library, type(component).__name__]
