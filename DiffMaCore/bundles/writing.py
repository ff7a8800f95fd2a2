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
from DiffMaCore.bundles.manifest import Manifest, write_manifest, write_text

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
    write_text(folder / INDEX_FILE, json.dumps(index, indent=2) + "\n")


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
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    small, guided = (has_component(folder, name) for name in (SMALL_DECODER, GUIDED_DECODER))
    write_text(folder / CARD_FILE, card_text(config, small, guided, (folder / RELIABILITY_FILE).is_file()))
    return write_manifest(folder)


def card_text(
    config: BundleConfig, small_decoder: bool = False, guided_decoder: bool = False, reliability: bool = False
) -> str:
    """The model card of a bundle, with or without these decoders and the plot of its uncertainty; a demo is called
    DEMO in its title."""
    card = config.card
    title = config.title if not config.demo or "DEMO" in config.title else f"DEMO: {config.title}"
    named = card.licence.strip().lower()
    own = f"license: other\nlicense_name: {json.dumps(card.licence)}"
    source, target = "ct" if config.takes_ct else "mr", "ct" if config.makes_ct else "mr"
    direction = f"{source}-to-{target}".replace("mr", "mri")
    tags = ["medical-imaging", direction, "diffusion", "mamba", "research-only", config.anatomy.lower()]
    front = [
        "---",
        f"license: {named}" if named in _HUB_LICENCES else own,
        "library_name: diffmacore",
        "pipeline_tag: image-to-image",
        "tags:",
        *(f"- {json.dumps(tag)}" for tag in tags + (["demo"] if config.demo else [])),
        "---",
    ]
    body = [
        f"# {title}",
        f"**{RESEARCH_ONLY}**",
        f"**Incomplete: finish it with `{config.completing_command(config.name)}`.**" if config.missing else "",
        f"{config.source_modality} to {config.target_modality}, {config.anatomy}. Version {card.version}.",
        f"## Training data\n\n{card.training_data}",
        f"## Known limits\n\n{card.limits}",
        f"## Measured\n\n{card.measured}" if card.measured else "",
        f"![Cover of the uncertainty's intervals]({RELIABILITY_FILE})" if reliability else "",
        "## What decides the result",
        "\n".join(f"- {line}" for line in _decisive(config, small_decoder, guided_decoder) if line),
        f"## Licence and source\n\n{card.licence}\n\n{card.source}",
        f"## How to use\n\n```\ndiffma convert {source}.nii.gz {target}.nii.gz --model {config.name}\n```",
        "```python\nfrom DiffMaCore import DiffMaPipeline\n\n"
        f'pipe = DiffMaPipeline.from_pretrained("{config.name}")\n{target} = pipe({source}_image).mr\n```',
    ]
    return "\n".join(front) + "\n\n" + "\n\n".join(part for part in body if part) + "\n"


def _decisive(config: BundleConfig, small_decoder: bool, guided_decoder: bool) -> list[str]:
    """What decides the result, a line each; empty where it does not apply."""
    size, (low, high) = config.image_size, config.output_range
    windows = "; ".join(f"{low:g} to {high:g} HU" for low, high in config.hu_windows)
    decoders = [
        "guided by the CT's pixels, the default" if guided_decoder else "",
        "`--decoder full`, which sees the latent alone" if guided_decoder else "full",
        "`--decoder small`, faster and approximate" if small_decoder else "",
    ]
    distance, shift, smoothing = config.neighbour_distance, config.grid_shift, config.slice_smoothing
    scale = config.uncertainty_scale
    return [
        f"Slices: {size} x {size} pixels of {config.pixel_spacing:g} mm (field of view {config.field_of_view:g} mm)",
        f"HU window: {windows}" if config.takes_ct else f"Source: {_normalisation(config.source_normalisation)}",
        f"MR normalisation in training: {_normalisation(config.mr_normalisation)}",
        f"Output: {low:g} to {high:g} {config.output_units}",
        f"Mode: {', or '.join(f'`--mode {mode}`: {MODES[mode]}' for mode in config.modes)}",
        f"Decoder: {'; '.join(filter(None, decoders))}",
        f"CT pixels of the slices {distance:g} mm below and above are seen as well" if distance is not None else "",
        f"The expected image is the mean over two grids of tokens, {shift} latent pixel apart" if shift else "",
        f"The expected image is smoothed across slices by {smoothing:g} mm (standard deviation)" if smoothing else "",
        f"Uncertainty: {scale:g} times the standard deviation over the samples" if scale != 1 else "",
    ]


def _normalisation(values: Mapping[str, Any] | None) -> str:
    details = ", ".join(f"{key} {value}" for key, value in (values or {}).items() if key != "method")
    return (values or {}).get("method", "none") + (f" ({details})" if details else "")
