"""A bundle's folder in, its checked configurations out: every number, word and name, before anything is built of them.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from DiffMaCore.bundles.component_configs import CLASSES
from DiffMaCore.bundles.config import AGAIN, INDEX_FILE, BundleConfig, Line, NameOrPath, read_index, read_json
from DiffMaCore.configuring import build, shown
from DiffMaCore.errors import ModelError

SCHEDULER = "scheduler"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
_TYPES = ("F16", "BF16", "F32", "F64")


def config_file(component: str) -> str:
    """Name of the configuration file in a component's folder."""
    return "scheduler_config.json" if component == SCHEDULER else "config.json"


@dataclass(frozen=True)
class _Saved:
    """What diffusers adds to every configuration that it saves."""

    _class_name: Line
    _diffusers_version: Line = "?"
    _name_or_path: NameOrPath = ""


def check_bundle(folder: Path) -> tuple[BundleConfig, dict[str, Any]]:
    """A bundle's configuration and those of its components (see :mod:`~DiffMaCore.bundles.component_configs`).

    Raises ModelError that names the file, the key and the remedy where a value cannot be meant, a key is unknown, a
    class is not allowed, weights are no safetensors, or the components do not fit each other.
    """
    config, classes = read_index(folder)
    parts = {name: read_component(folder / name, name, chosen)[1] for name, chosen in classes.items()}
    try:
        check_fit(config, parts)
    except ValueError as problem:
        raise ModelError(f"{folder}: {problem}{AGAIN}") from None
    for name in classes:
        if name != SCHEDULER:
            weight_shapes(folder / name / WEIGHTS_FILE)
    return config, parts


def read_component(folder: Path, name: str, chosen: str | None = None) -> tuple[str, Any]:
    """Class and checked configuration in the folder of one component; the class must be ``chosen`` if one is.

    Raises ModelError as :func:`check_bundle` does.
    """
    path = folder / config_file(name)
    content = read_json(path, f"{folder} holds no {name.replace('_', ' ')}")
    extra = {item.name for item in fields(_Saved)} & set(content)
    found = build(_Saved, {key: content[key] for key in extra}, str(path), ModelError, AGAIN)._class_name
    if found not in CLASSES[name] or chosen not in (None, found):
        wanted = chosen or " or ".join(CLASSES[name])
        raise ModelError(f"{path}: _class_name must be {wanted}, not {shown(found)}{AGAIN}")
    values = {key: value for key, value in content.items() if key not in extra}
    return found, component_config(name, found, values, str(path))


def component_config(name: str, chosen: str, values: Mapping[str, Any], where: str) -> Any:
    """The checked configuration of a component of an allowed class; raises ModelError as :func:`check_bundle` does."""
    return build(CLASSES[name][chosen][1], values, where, ModelError, AGAIN)


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a safetensors file's tensors by name; ModelError where it is none, or holds other than floats."""
    try:
        if not path.is_file():
            raise ModelError(f"{path} is missing{AGAIN}.")
        with safe_open(path, framework="numpy") as weights:
            tensors = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118  it is no mapping
            for name, tensor in tensors.items():
                if tensor.get_dtype() not in _TYPES:
                    kind = tensor.get_dtype()
                    raise ModelError(f"{path} holds {shown(name)} as {kind}, not one of {', '.join(_TYPES)}{AGAIN}.")
            return {name: tuple(tensor.get_shape()) for name, tensor in tensors.items()}
    except (SafetensorError, OSError, ValueError) as problem:
        raise ModelError(f"{path} is no sound safetensors file ({shown(str(problem))}){AGAIN}.") from None


def check_fit(config: BundleConfig, parts: Mapping[str, Any]) -> None:
    """Raise ValueError, naming file, key and both values, where components do not fit each other or their bundle.

    ``parts`` are configurations by component; those that are absent are not looked at.
    """
    denoiser, vae, scheduler = (parts.get(name) for name in ("denoiser", "vae", SCHEDULER))
    if denoiser is None:
        return
    factor = vae.factor if vae else config.image_size // denoiser.latent_size
    pixels = 9 if config.takes_ct and len(config.hu_windows) == 3 else 3
    latent = {"latent_channels": denoiser.in_channels}
    wanted: dict[str, dict[str, Any]] = {
        "embedder": {key: getattr(denoiser, key) for key in ("latent_size", "width", "in_channels")},
        "image_encoder": {"embed_dim": denoiser.width},
        "vae": latent,
        "small_decoder": {**latent, "factor": factor},
        "guided_decoder": {**latent, "factor": factor, "pixel_channels": pixels},
    }
    if hasattr(denoiser, "patch_size"):
        wanted["embedder"]["patch_size"] = denoiser.patch_size
    if denoiser.sees_pixels:
        wanted["denoiser"] = {"pixel_channels": pixels, "pixel_factor": factor}
    if "mean" in config.modes:
        wanted[SCHEDULER] = {"prediction_type": "v_prediction"}
        wanted["denoiser"] = {**wanted.get("denoiser", {}), "learn_sigma": False}
    if str(getattr(scheduler, "variance_type", "")).startswith("learned"):
        wanted["denoiser"] = {**wanted.get("denoiser", {}), "learn_sigma": True}
    for name, values in wanted.items():
        for key, value in values.items():
            if name in parts and (has := getattr(parts[name], key)) != value:
                file = f"{name}/{config_file(name)}"
                if key == "factor":
                    file += f" ({'channels' if name == 'guided_decoder' else 'num_decoder_blocks'})"
                whom = "hu_windows and neighbours" if key == "pixel_channels" else "the other components"
                raise ValueError(f"{file}: {key} must be {value} to fit {whom}, not {has}")
    if config.image_size != factor * denoiser.latent_size:
        raise ValueError(
            f"{INDEX_FILE}: image_size must be {factor * denoiser.latent_size}, the denoiser's latent_size times the"
            f" VAE's factor {factor}, not {config.image_size}"
        )
    if config.neighbour_distance is None and (denoiser.sees_pixels or "guided_decoder" in parts):
        raise ValueError(f"{INDEX_FILE}: neighbour_distance must be set, since the components see the CT's pixels")
