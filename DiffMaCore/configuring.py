"""Configurations: plain values (of YAML or JSON) in, nested frozen dataclasses out, checked key by key.

A field's type says what it may hold: ``int``, ``float`` (finite), ``bool``, ``str``, ``Literal``, ``tuple``, another
dataclass, one of them or None, and ``Annotated`` with rules such as :func:`Bounds` and :func:`Words`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import json
import math
import re
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

from DiffMaCore.errors import DiffMaError, InputError

_Config = TypeVar("_Config")
_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")
MOST_NAMED = 8
"""So many problems of one group of keys are named: a hostile file may hold thousands."""
_KINDS = {int: "a whole number", str: "text", bool: "true or false"}
_MARKUP = re.compile(r"<[A-Za-z/!?]|!\[|javascript:", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a value must be beyond its type: whether it ``holds``, and what is ``wanted``, after "must", where not."""

    holds: Callable[[Any], bool]
    wanted: str


def Bounds(low: float, high: float) -> Rule:
    """A number from ``low`` to ``high``, both included."""
    return Rule(lambda value: low <= value <= high, f"be {low:g}" if low == high else f"be from {low:g} to {high:g}")


def Words(most: int, lines: bool = False, empty: bool = False) -> Rule:
    """Text to show: printable, without markup, at most ``most`` characters, in one line or in several ``lines``."""

    def holds(value: str) -> bool:
        plain = re.sub(r"[\n\t]", " ", value) if lines else value
        filled = empty or bool(value.strip())
        return filled and len(value) <= most and plain.isprintable() and not _MARKUP.search(value)

    form = "" if lines else " in one line"
    return Rule(holds, f"be some text of up to {most} printable characters{form} without markup")


def Pattern(form: str, meaning: str) -> Rule:
    """Text that matches the regular expression ``form``; ``meaning`` says what that is."""
    return Rule(lambda value: bool(re.fullmatch(form, value)), f"be {meaning}")


def Length(least: int, most: int, different: bool = False) -> Rule:
    """So many values, from ``least`` to ``most``, and none of them twice where they are ``different``."""
    count = str(least) if least == most else f"{least} to {most}"
    return Rule(
        lambda value: least <= len(value) <= most and (not different or len(set(value)) == len(value)),
        f"hold {count} {'different ' if different else ''}values",
    )


def Rising(most: float) -> Rule:
    """A pair (low, high) with low below high, neither beyond plus or minus ``most``."""
    return Rule(
        lambda value: -most <= value[0] < value[1] <= most,
        f"be (low, high) with low below high and none beyond {most:g}",
    )


def load_config(path: Path, cls: type[_Config]) -> _Config:
    """Read a YAML file into the frozen dataclass ``cls``.

    Raises InputError naming all keys that are unknown (with the nearest one), missing or of the wrong kind; where there
    are none, the first value out of range (the dataclass's own ValueError).
    """
    import yaml

    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _loader())
    except OSError:
        raise InputError(f"there is no configuration {path}; give a YAML file like those in Training/") from None
    except yaml.YAMLError as problem:
        raise InputError(f"{path} is not YAML: {str(problem).splitlines()[0]}") from None
    return build(cls, values, path.name)


def _loader() -> Any:
    """YAML's safe loader, for which 1e-4 is a number as well (YAML 1.2; PyYAML wants 1.0e-4)."""
    import yaml

    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    form = re.compile(r"[-+]?\d+(\.\d*)?e[-+]?\d+")
    loader.add_implicit_resolver("tag:yaml.org,2002:float", form, list("-+0123456789"))
    return loader


def build(
    cls: type[_Config], values: Any, where: str, error: type[DiffMaError] = InputError, remedy: str = ""
) -> _Config:
    """An instance of the frozen dataclass ``cls`` from plain ``values``.

    Raises ``error`` in one sentence: ``where``, the key, what it must be, and ``remedy`` if there is one.
    """
    try:
        return _build(cls, values, where)
    except ValueError as problem:
        raise error(f"{problem}{remedy}") from None


def check_fields(config: Any) -> None:
    """Check and convert every field of a frozen dataclass that was made by hand; raises ValueError naming the key."""
    hints = _hints(typing.cast(Any, type(config)))
    for item in dataclasses.fields(config):
        object.__setattr__(config, item.name, _convert(hints[item.name], getattr(config, item.name), item.name))


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like ``word``, in whatever case, if any is alike at all."""
    known = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word[:200].lower(), known, n=1, cutoff=0.5)
    return known[found[0]] if found else None


def names_wrong_arguments(call: Callable[_Given, _Answer]) -> Callable[_Given, _Answer]:
    """A function or method that answers a wrong argument's name with the nearest one, in its TypeError."""
    known = [name for name in inspect.signature(call).parameters if name != "self"]

    @functools.wraps(call)
    def checked(*args: _Given.args, **named: _Given.kwargs) -> _Answer:
        for word in named.keys() - known:
            alike = [name for name in known if word in name.split("_") or name in word.split("_")]
            near = alike[0] if alike else nearest(word, known)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(known)}"
            raise TypeError(f"{call.__qualname__}() has no argument {word!r}; {hint}")
        return call(*args, **named)

    return checked


def shown(value: Any) -> str:
    """A value as an error shows it: on one line, and not longer than a line."""
    text = _SHORT.repr(value)
    return text if text.isprintable() else ascii(text)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 3


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _build(cls: type[_Config], values: Any, where: str) -> _Config:
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must hold keys and values, not {shown(values)}")
    hints = _hints(typing.cast(Any, cls))
    known = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls))}
    needed = {n for n, f in known.items() if f.default is f.default_factory is dataclasses.MISSING}
    absent = [name for name in known if name in needed and name not in values]
    problems, meant, converted = [], set(), {}
    for key in (key for key in values if key not in known):
        near = nearest(str(key), absent or known)
        hint = f"did you mean {near!r}?" if near else f"known are {', '.join(known)}"
        problems.append(f"{where} has the unknown key {shown(key)}; {hint}")
        meant.add(near)
    problems += [f"{where} lacks the key {name!r}" for name in absent if name not in meant]
    for key in (key for key in values if key in known):
        try:
            converted[key] = _convert(hints[key], values[key], f"{where}: {key}")
        except ValueError as problem:
            problems.append(str(problem))
    if problems:
        more = len(problems) - MOST_NAMED
        raise ValueError("; also ".join(problems[:MOST_NAMED] + ([f"{more} more like these"] if more > 0 else [])))
    try:
        return cls(**converted)
    except (ValueError, DiffMaError) as problem:
        raise ValueError(f"{where}: {problem}") from None


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        converted = _number(value, where) if inner[0] is float else _convert(inner[0], value, where)
        for rule in inner[1:]:
            if converted is not None and not rule.holds(converted):
                raise ValueError(f"{where} must {rule.wanted}, not {shown(value)}")
        return converted
    if dataclasses.is_dataclass(kind):
        return _build(typing.cast(type, kind), value, where)
    if origin in (typing.Union, types.UnionType):
        choice = next(c for c in inner if c is not type(None))
        return None if value is None else _convert(choice, value, where)
    if origin is typing.Literal:
        if any(type(value) is type(choice) and value == choice for choice in inner):
            return value
        texts = [str(choice) for choice in inner]
        near = nearest(value, texts) if isinstance(value, str) else None
        hint = f"did you mean {near}?" if near else f"it can be {', '.join(texts)}"
        raise ValueError(f"{where} is {shown(value)}; {hint}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list, not {shown(value)}")
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is ... else list(inner)
        if len(kinds) != len(value):
            raise ValueError(f"{where} must hold {len(kinds)} values, not {len(value)}")
        return tuple(_convert(k, v, where) for k, v in zip(kinds, value, strict=True))
    if kind is float:
        if math.isinf(number := _number(value, where)):
            raise ValueError(f"{where} must be a finite number, not {shown(value)}")
        return number
    if kind in _KINDS and type(value) is not kind:
        raise ValueError(f"{where} must be {_KINDS[kind]}, not {shown(value)}")
    return value


def _number(value: Any, where: str) -> float:
    """A number, which may be infinite, as a float."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        raise ValueError(f"{where} must be a number, not {shown(value)}")
    return float(value) if abs(value) <= sys.float_info.max else (math.inf if value > 0 else -math.inf)


def first_change(before: Any, now: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that differs, lists and tuples being the same: its dotted name, what it was and what it is."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = {key: f"{name}.{key}" if name else str(key) for key in (*now, *before)}
        found = (first_change(before.get(key), now.get(key), dotted) for key, dotted in names.items())
        return next((change for change in found if change), None)
    return None if json.loads(json.dumps([before])) == json.loads(json.dumps([now])) else (name, before, now)
