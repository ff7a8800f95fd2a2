"""A training run's configuration: nested frozen dataclasses read from one YAML file."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DiffMaCore.errors import InputError
from DiffMaCore.training.data import DataConfig
from DiffMaCore.training.denoiser import DenoiserConfig
from DiffMaCore.training.embedder import EmbedderConfig
from DiffMaCore.training.image_encoder import ImageEncoderConfig
from DiffMaCore.training.vae import RefineConfig, VaeConfig


@dataclass(frozen=True)
class DemoConfig:
    """Everything that decides a demo bundle: data, HU windows, the four networks and the bundle's words."""

    name: str
    title: str
    anatomy: str
    seed: int
    threads: int
    hu_windows: tuple[tuple[float, float], ...]
    output_range: tuple[float, float]
    data: DataConfig
    vae: VaeConfig
    image_encoder: ImageEncoderConfig
    embedder: EmbedderConfig
    denoiser: DenoiserConfig
    refine: RefineConfig
    card: dict[str, str]


def load_config(path: Path) -> DemoConfig:
    """Read a run's YAML file.

    Raises InputError naming the key that is unknown, missing or of the wrong kind.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"there is no configuration {path}; give a YAML file like Training/demo.yaml") from None
    except yaml.YAMLError as problem:
        raise InputError(f"{path} is not YAML: {str(problem).splitlines()[0]}") from None
    return _build(DemoConfig, values, path.name)


def _build(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise InputError(f"{where} must hold keys and values, not {values!r}")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in known:
            raise InputError(f"{where} has the unknown key {key!r}; known are {', '.join(known)}")
    for name, item in known.items():
        if item.default is dataclasses.MISSING and name not in values:
            raise InputError(f"{where} lacks the key {name!r}")
    return cls(**{key: _convert(hints[key], value, f"{where}: {key}") for key, value in values.items()})


def _convert(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        choices = [c for c in typing.get_args(kind) if c is not type(None)]
        return None if value is None else _convert(choices[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"{where} must be a list, not {value!r}")
        inner = typing.get_args(kind)
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is ... else list(inner)
        if len(kinds) != len(value):
            raise InputError(f"{where} must hold {len(kinds)} values, not {len(value)}")
        return tuple(_convert(k, v, where) for k, v in zip(kinds, value, strict=True))
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as text
        except ValueError:
            raise InputError(f"{where} must be a number, not {value!r}") from None
    if kind in (int, str, bool) and type(value) is not kind:
        raise InputError(f"{where} must be of type {kind.__name__}, not {value!r}")
    return value
