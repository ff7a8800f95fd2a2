"""Configurations: nested frozen dataclasses read from one YAML file, checked key by key."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from DiffMaCore.errors import InputError

_Config = TypeVar("_Config")


def load_config(path: Path, cls: type[_Config]) -> _Config:
    """Read a YAML file into the frozen dataclass ``cls``.

    Raises InputError naming every key that is unknown (with the nearest one), missing or of the wrong kind, by line;
    where there is none, the first value out of range (the dataclass's own ValueError).
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"there is no configuration {path}; give a YAML file like those in Training/") from None
    except yaml.YAMLError as problem:
        raise InputError(f"{path} is not YAML: {str(problem).splitlines()[0]}") from None
    return build(cls, values, path.name)


def build(cls: type[_Config], values: Any, where: str) -> _Config:
    """An instance of the frozen dataclass ``cls`` from plain ``values``; ``where`` opens every error."""
    if not isinstance(values, Mapping):
        raise InputError(f"{where} must hold keys and values, not {values!r}")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls))}
    problems = [_unknown(str(key), known, where) for key in values if key not in known]
    for name, item in known.items():
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING and name not in values:
            problems.append(f"{where} lacks the key {name!r}")
    converted = {}
    for key in (name for name in known if name in values):
        try:
            converted[key] = _convert(hints[key], values[key], f"{where}: {key}")
        except InputError as problem:
            problems.append(str(problem))
    if problems:
        raise InputError("\n".join(problems))
    try:
        return cls(**converted)
    except ValueError as problem:
        raise InputError(f"{where}: {problem}") from None


def _unknown(key: str, known: Mapping[str, Any], where: str) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"{where} has the unknown key {key!r}; {hint}"


def _convert(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return build(typing.cast(type, kind), value, where)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        choices = [c for c in typing.get_args(kind) if c is not type(None)]
        return None if value is None else _convert(choices[0], value, where)
    if origin is typing.Literal:
        return _choice(value, typing.get_args(kind), where)
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


def _choice(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value in choices:
        return value
    near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
    hint = f"did you mean {near[0]}?" if near else f"it can be {', '.join(map(str, choices))}"
    raise InputError(f"{where} is {value!r}; {hint}")
