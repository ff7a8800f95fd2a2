"""Components and a configuration in, a bundle's folder out, with index, model card and manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from DiffMaCore.bundles.config import (
    COMPONENTS,
    GUIDED_DECODER,
    INDEX_FILE,
    MODES,
    OPTIONAL,
    RESEARCH_ONLY,
    SMALL_DECODER,
    BundleConfig,
    has_component,
)
from DiffMaCore.bundles.manifest import Manifest, write_manifest
from DiffMaCore.files import write_json, write_text
from DiffMaCore.reports import report

CARD_FILE = "README.md"
RELIABILITY_FILE = "reliability.png"
"""How many voxels the uncertainty's intervals cover, against what they promise; in a bundle where it was measured."""
_HUB_LICENCES = ("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0")


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
        index[name] = [None, None]
        if name not in config.missing:
            index[name] = save_component(folder / name, components[name])
    write_index(folder, index)
    return seal(folder, config)


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    """Write ``model_index.json``."""
    write_json(folder / INDEX_FILE, index)


def save_component(folder: Path, component: Any) -> list[str]:
    """Save one component, weights as safetensors; returns its library and class as ``model_index.json`` states them."""
    folder.mkdir(parents=True, exist_ok=True)
    component.save_pretrained(folder)
    module = type(component).__module__
    return [module if module.startswith("DiffMaCore") else module.split(".")[0], type(component).__name__]


def seal(folder: Path, config: BundleConfig) -> Manifest:
    """Write the model card and the manifest of a folder whose other files are final.

    Where it or its components were loaded from, which diffusers notes, is nobody else's business and goes.
    """
    for path in (folder / INDEX_FILE, *folder.glob("*/config.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("_name_or_path", None) is not None:
            write_json(path, content)
    small, guided = (has_component(folder, name) for name in (SMALL_DECODER, GUIDED_DECODER))
    write_text(folder / CARD_FILE, card_text(config, small, guided, (folder / RELIABILITY_FILE).is_file()))
    return write_manifest(folder)


def card_text(
    config: BundleConfig, small_decoder: bool = False, guided_decoder: bool = False, reliability: bool = False
) -> str:
    """The model card of a bundle, with or without these decoders and the plot of its uncertainty; a demo is called
    DEMO in its title."""
    named = config.card.licence.strip().lower()
    own = f"license: other\nlicense_name: {json.dumps(config.card.licence)}"
    source, target = "ct" if config.takes_ct else "mr", "ct" if config.makes_ct else "mr"
    direction = f"{source}-to-{target}".replace("mr", "mri")
    tags = ["medical-imaging", direction, "diffusion", "mamba", "research-only", config.anatomy.lower()]
    return report(
        "card.md.jinja",
        c=config,
        licence=f"license: {named}" if named in _HUB_LICENCES else own,
        tags=[json.dumps(tag) for tag in tags + (["demo"] if config.demo else [])],
        source=source,
        target=target,
        small=small_decoder,
        guided=guided_decoder,
        reliability=reliability and RELIABILITY_FILE,
        research_only=RESEARCH_ONLY,
        modes=MODES,
        normalisation=_normalisation,
    )


def _normalisation(values: Mapping[str, Any] | None) -> str:
    details = ", ".join(f"{key} {value}" for key, value in (values or {}).items() if key != "method")
    return (values or {}).get("method", "none") + (f" ({details})" if details else "")
