"""The authors' released weights become a bundle, and a bundle without VAE or image encoder is completed."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from DiffMaCore.bundles import store
from DiffMaCore.bundles.checking import check_bundle, check_fit, component_config
from DiffMaCore.bundles.config import INDEX_FILE, BundleConfig, ModelCard, has_component, read_json
from DiffMaCore.bundles.manifest import MANIFEST_FILE, Progress, bundle_checksum, verify
from DiffMaCore.bundles.unpickle import Weights, load_released_checkpoint
from DiffMaCore.bundles.writing import save_component, seal, write_bundle, write_index
from DiffMaCore.diffusion.schedulers import make_scheduler
from DiffMaCore.errors import ModelError, OutputError, loading
from DiffMaCore.files import refused, replacing_folder, temporary_folder
from DiffMaCore.models.components import PARTS, SMALL, Part, obtain
from DiffMaCore.models.released import load_denoiser, load_embedder
from DiffMaCore.presets import VAE_FACTOR, size_name

HU_WINDOW = (-1024.0, 2000.0)
PIXEL_SPACING = 1.0


def import_released(
    denoiser: str | Path,
    embedder: str | Path,
    output: str | Path,
    anatomy: str,
    name: str | None = None,
    weights: Weights = "ema",
    pixel_spacing: float = PIXEL_SPACING,
    hu_window: tuple[float, float] = HU_WINDOW,
    vae: str | None = None,
    image_encoder: str | None = None,
    small_decoder: str | None = None,
    progress: Progress | None = None,
) -> BundleConfig:
    """Write a bundle folder ``output`` from the authors' denoiser and embedder files; it appears in one step.

    Where the same bundle is there already, as after a process that was killed at its end, it stays.

    Sizes are read from the weights. A VAE or image encoder that cannot be had is left out and named in ``missing`` of
    what is returned (see :func:`complete_bundle`).

    Args:
        denoiser, embedder: the authors' files, or plain state dicts (.pt, .safetensors).
        output: a folder, new or holding this very bundle, whose name is the bundle's where none is given.
        anatomy: what the weights were trained on, such as "brain".
        weights: "ema" or "model".
        pixel_spacing, hu_window: of the slices it was trained on, in mm and HU. The authors published neither, and the
            card says that both are assumptions.
        vae, image_encoder: folders or hub ids in place of the authors' sources on the hub.
        small_decoder: folder or hub id of a diffusers AutoencoderTiny; without one the bundle has none.
        progress: gets the bytes of what is downloaded.

    Raises:
        ModelError: a file is damaged or no such weights, the parts do not fit each other, or the small decoder
            cannot be had.
        OutputError: ``output`` holds anything else or cannot be written.
    """
    output = Path(output).expanduser()
    taken = OutputError(f"{output} exists already: give another folder with -o or remove it.")
    if output.exists() and not (output / MANIFEST_FILE).is_file():
        raise taken
    with loading("the checkpoints"):
        denoiser_state = load_released_checkpoint(denoiser, weights)
        embedder_state = load_released_checkpoint(embedder, weights)
    latent_size, patch_size = _sizes(denoiser_state, embedder_state)
    model = load_denoiser(denoiser_state, latent_size, patch_size)
    components: dict[str, Any] = {
        "denoiser": model,
        "embedder": load_embedder(embedder_state, latent_size, patch_size),
        "scheduler": make_scheduler(),
    }
    given = {"vae": vae, "image_encoder": image_encoder, SMALL.name: small_decoder}
    components |= _obtained(PARTS, given, progress)
    size = size_name(model.config["width"], model.config["depth"], patch_size)
    config = BundleConfig(
        name=name or output.name,
        title=f"DiffMa-{size} {anatomy} CT to MR (the authors' released weights)",
        anatomy=anatomy,
        image_size=latent_size * VAE_FACTOR,
        pixel_spacing=pixel_spacing,
        hu_windows=(hu_window,),
        mr_normalisation={"method": "unpublished", "assumed": "minimum to maximum of each slice"},
        output_units="arbitrary",
        card=_card(anatomy, weights),
        missing=tuple(part.name for part in PARTS if part.name not in components),
    )
    check_parts(config, components)
    with temporary_folder(output.parent) as incoming, refused(output):
        made = write_bundle(incoming / "bundle", config, components).bundle_sha256
        if not output.exists():
            (incoming / "bundle").rename(output)
        elif bundle_checksum(output) != made:
            raise taken
        else:
            verify(output, progress)
    return config


def complete_bundle(
    folder: Path,
    vae: str | None = None,
    image_encoder: str | None = None,
    small_decoder: str | None = None,
    progress: Progress | None = None,
) -> BundleConfig:
    """Add the missing VAE and image encoder to a bundle, and a small decoder if one is given; the folder changes in
    one step or not at all.

    Sources are as in :func:`import_released`. Raises ModelError when the bundle is damaged, ships with the package,
    or has what is to be added, when a given part does not fit, and when none of the missing parts can be had.
    """
    config = verify(folder, progress)
    if store.is_bundled(folder):
        raise ModelError("The demo ships inside of the package and stays as it is: complete a bundle of yours.")
    if not config.missing and not small_decoder:
        raise ModelError(f"{folder} is complete: nothing has to be added.")
    if small_decoder and has_component(folder, SMALL.name):
        raise ModelError(f"{folder} has its small decoder already: leave {SMALL.option} out.")
    given = {"vae": vae, "image_encoder": image_encoder, SMALL.name: small_decoder}
    for part in PARTS:
        if given[part.name] and part.name not in config.missing:
            raise ModelError(f"{folder} has its {part.name.replace('_', ' ')} already: leave {part.option} out.")
    components = _obtained([part for part in PARTS if part.name in config.missing], given, progress)
    if not components:
        config.require_complete(str(folder))
    check_parts(config, components, check_bundle(folder)[1])
    config = replace(config, missing=tuple(name for name in config.missing if name not in components))
    with replacing_folder(folder) as copy:
        shutil.copytree(folder, copy, copy_function=_link, dirs_exist_ok=True)
        index = read_json(copy / INDEX_FILE, str(folder)) | {"bundle": config.to_dict()}
        for name, component in components.items():
            index[name] = save_component(copy / name, component)
        write_index(copy, index)
        store.record(folder, also=seal(copy, config).bundle_sha256)
    store.record(folder)
    return config


def check_parts(config: BundleConfig, components: Mapping[str, Any], present: Mapping[str, Any] | None = None) -> None:
    """Raise ModelError, naming key and both values, where components do not fit each other or what is ``present``.

    ``present`` are the checked configurations of a bundle's components.
    """
    parts = dict(present or {})
    for name, part in components.items():
        given = {key: value for key, value in part.config.items() if not key.startswith("_")}
        parts[name] = component_config(name, type(part).__name__, given, name)
    try:
        check_fit(config, parts)
    except ValueError as problem:
        known = " and ".join(part.hub_id for part in PARTS if part.name in components)
        raise ModelError(f"the components do not fit: {problem}; give {known or 'others'}") from None


def _obtained(parts: Sequence[Part], given: Mapping[str, str | None], progress: Progress | None) -> dict[str, Any]:
    """Those of the parts that can be had, by name, and the small decoder, which can be had if it is given at all."""
    wanted = [*parts, SMALL] if given[SMALL.name] else parts
    found = {part.name: obtain(part, given[part.name], progress) for part in wanted}
    if SMALL.name in found and found[SMALL.name] is None:
        raise ModelError(
            f"The small decoder {given[SMALL.name]} cannot be had from the hub: check its name and the network, or give"
            f" {SMALL.option} the folder of a diffusers AutoencoderTiny."
        )
    return {name: component for name, component in found.items() if component is not None}


def _sizes(denoiser: Mapping[str, Tensor], embedder: Mapping[str, Tensor]) -> tuple[int, int]:
    """Latent and patch size of the two networks, which must agree."""
    try:
        shape = tuple(denoiser["x_embedder.proj.weight"].shape)
        tokens = denoiser["pos_embed"].shape[1]
    except (KeyError, IndexError):
        raise ModelError(
            "The first file holds no released DiffMa denoiser (x_embedder.proj.weight and pos_embed are"
            " wanted): give the denoiser's checkpoint first and the embedder's with --embedder."
        ) from None
    try:
        other = tuple(embedder["vision_embedding.proj.weight"].shape)
        other_tokens = embedder["fc.0.weight"].shape[1]
    except (KeyError, IndexError):
        raise ModelError(
            "The --embedder file holds no released Vision Embedder (vision_embedding.proj.weight and"
            " fc.0.weight are wanted): give the embedder's checkpoint."
        ) from None
    if (shape, tokens) != (other, other_tokens):
        raise ModelError(
            f"Denoiser and embedder do not belong together: patch weights {shape} and {tokens} tokens"
            f" against {other} and {other_tokens}; give the embedder of the same patch size."
        )
    grid = math.isqrt(tokens)
    if len(shape) != 4 or grid * grid != tokens:
        raise ModelError(f"The denoiser's {tokens} tokens are no square grid: give another file.")
    return grid * shape[-1], shape[-1]


def _card(anatomy: str, weights: Weights) -> ModelCard:
    return ModelCard(
        training_data=f"SynthRAD2023 task 1, {anatomy}, as DiffMa's authors state; split by slice.",
        licence="MIT",
        limits=(
            "The authors published neither the HU window and MR normalisation nor the pixel spacing of their"
            " training arrays: those in this bundle are assumptions, and results depend on them. Slices are"
            " made one by one. Trained on one public data set; other scanners, contrast agents, implants and"
            " pathology were not tested."
        ),
        source=(
            f"Converted from the {weights} weights released with DiffMa (wongzbb/DiffMa-Diffusion-Mamba,"
            f" MIT); VAE: {PARTS[0].hub_id} (MIT); image encoder: {PARTS[1].hub_id} (MIT)."
        ),
        version="1",
    )


def _link(source: str, target: str) -> str:
    """Copy a file, as a hard link where the disk can: files here are replaced, never changed in place."""
    try:
        os.link(source, target)
    except OSError:
        return shutil.copy2(source, target)
    return target
