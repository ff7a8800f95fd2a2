"""A bundle's configuration in, its README.md out: a model card as hubs read it (YAML front matter, Markdown)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from DiffMaCore.bundles.config import GUIDED_DECODER, MODES, RESEARCH_ONLY, SMALL_DECODER, BundleConfig, has_component
from DiffMaCore.bundles.manifest import write_text

CARD_FILE = "README.md"
RELIABILITY_FILE = "reliability.png"
"""How many voxels the uncertainty's intervals cover, against what they promise; in a bundle where it was measured."""
_HUB_LICENCES = ("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0")


def write_card(folder: Path, config: BundleConfig) -> None:
    """Write ``README.md`` into a bundle folder (before its manifest, which lists it)."""
    folder = Path(folder)
    small, guided = (has_component(folder, name) for name in (SMALL_DECODER, GUIDED_DECODER))
    plotted = (folder / RELIABILITY_FILE).is_file()
    write_text(folder / CARD_FILE, card_text(config, small, guided, plotted))


def card_text(
    config: BundleConfig, small_decoder: bool = False, guided_decoder: bool = False, reliability: bool = False
) -> str:
    """The model card of a bundle, with or without these decoders and the plot of its uncertainty; a demo is called
    DEMO in its title."""
    card = config.card
    title = config.title
    if config.demo and "DEMO" not in title:
        title = f"DEMO: {title}"
    named = card.licence.strip().lower()
    licence = named if named in _HUB_LICENCES else "other"
    source, target = "ct" if config.takes_ct else "mr", "ct" if config.makes_ct else "mr"
    direction = f"{source}-to-{target}".replace("mr", "mri")
    tags = ["medical-imaging", direction, "diffusion", "mamba", "research-only", config.anatomy.lower()]
    front = [
        "---",
        f"license: {licence}",
        *([f"license_name: {json.dumps(card.licence)}"] if licence == "other" else []),
        "library_name: diffmacore",
        "pipeline_tag: image-to-image",
        "tags:",
        *(f"- {json.dumps(tag)}" for tag in tags + (["demo"] if config.demo else [])),
        "---",
    ]
    windows = "; ".join(f"{low:g} to {high:g} HU" for low, high in config.hu_windows)
    low, high = config.output_range
    size = config.image_size
    body = [
        f"# {title}",
        f"**{RESEARCH_ONLY}**",
        *_incomplete(config),
        f"{config.source_modality} to {config.target_modality}, {config.anatomy}. Version {card.version}.",
        "## Training data",
        card.training_data,
        "## Known limits",
        card.limits,
        *(["## Measured", card.measured] if card.measured else []),
        *([f"![Cover of the uncertainty's intervals]({RELIABILITY_FILE})"] if reliability else []),
        "## What decides the result",
        "\n".join(
            [
                f"- Slices: {size} x {size} pixels of {config.pixel_spacing:g} mm (field of view"
                f" {config.field_of_view:g} mm)",
                f"- HU window: {windows}"
                if config.takes_ct
                else f"- Source: {_normalisation(config.source_normalisation)}",
                f"- MR normalisation in training: {_normalisation(config.mr_normalisation)}",
                f"- Output: {low:g} to {high:g} {config.output_units}",
                f"- Mode: {', or '.join(f'`--mode {mode}`: {MODES[mode]}' for mode in config.modes)}",
                f"- Decoder: {'; '.join(_decoders(small_decoder, guided_decoder))}",
                *_neighbours(config),
                *_uncertainty(config),
            ]
        ),
        "## Licence and source",
        f"{card.licence}\n\n{card.source}",
        "## How to use",
        f"```\ndiffma convert {source}.nii.gz {target}.nii.gz --model {config.name}\n```",
        "```python\nfrom DiffMaCore import DiffMaPipeline\n\n"
        f'pipe = DiffMaPipeline.from_pretrained("{config.name}")\n{target} = pipe({source}_image).mr\n```',
    ]
    return "\n".join(front) + "\n\n" + "\n\n".join(body) + "\n"


def _decoders(small: bool, guided: bool) -> list[str]:
    return [
        *(["guided by the CT's pixels, the default"] if guided else []),
        "`--decoder full`, which sees the latent alone" if guided else "full",
        *(["`--decoder small`, faster and approximate"] if small else []),
    ]


def _neighbours(config: BundleConfig) -> list[str]:
    distance = config.neighbour_distance
    lines = [] if distance is None else [f"- CT pixels of the slices {distance:g} mm below and above are seen as well"]
    if config.grid_shift:
        lines.append(
            f"- The expected image is the mean over two grids of tokens, {config.grid_shift} latent pixel apart"
        )
    if config.slice_smoothing:
        lines.append(
            f"- The expected image is smoothed across slices by {config.slice_smoothing:g} mm (standard deviation)"
        )
    return lines


def _uncertainty(config: BundleConfig) -> list[str]:
    scale = config.uncertainty_scale
    return [] if scale == 1 else [f"- Uncertainty: {scale:g} times the standard deviation over the samples"]


def _normalisation(values: Mapping[str, Any] | None) -> str:
    details = ", ".join(f"{key} {value}" for key, value in (values or {}).items() if key != "method")
    return (values or {}).get("method", "none") + (f" ({details})" if details else "")


def _incomplete(config: BundleConfig) -> list[str]:
    if not config.missing:
        return []
    return [f"**Incomplete: finish it with `{config.completing_command(config.name)}`.**"]
