"""What tells an experiment's keys, made from the code: the documentation's page, and the file to begin with.

``python -m Training.configuration_keys`` writes both: docs/configuration.md and the package's
data/experiment/experiment.yaml, which ``diffma prepare --template`` copies.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from DiffMaCore.reports import rows_of
from DiffMaCore.training.experiment import TEMPLATE, Experiment

_START = """\
# An experiment on volume pairs of yours. Fill in the keys in front; those behind # stand at their defaults.
# Sections that are not here (parts, denoiser, train and others): docs/configuration.md
#   diffma prepare pairs.csv --config experiment.yaml     checked, split by patient, encoded once
#   diffma train embedder    --config experiment.yaml
#   diffma train denoiser    --config experiment.yaml     ends as a bundle
"""
_FILLED = {
    "name": "mine",
    "title": "Head CT to T1, own pairs",
    "anatomy": "brain",
    "training_data": "whose scans, how many, which scanner",
    "licence": "who may use the model",
    "limits": "what the model has never seen",
}
_BELOW = "a section"
_PAGE = """\
# Configuration

One YAML file is one experiment. `diffma prepare --template FOLDER` writes one to begin with, and an example CSV. All
keys that are unknown, missing or of the wrong kind are named at once with the nearest right one. This page is made from
the code by `python -m Training.configuration_keys`.
"""


class Key(NamedTuple):
    """One key of a configuration: ``default`` is None where it must be given."""

    name: str
    kind: str
    default: str | None
    meaning: str
    below: type | None


def keys(cls: type) -> list[Key]:
    """The keys of a configuration's dataclass; meanings are the comments of its source."""
    source, hints = inspect.getsource(cls), typing.get_type_hints(cls)
    comments = dict(re.findall(r"(?m)^    (\w+):[^#\n]*?  # (.+)$", source))
    found = []
    for item in dataclasses.fields(typing.cast(Any, cls)):
        below = next(
            (k for k in (hints[item.name], *typing.get_args(hints[item.name])) if dataclasses.is_dataclass(k)), None
        )
        default = None if item.default_factory is dataclasses.MISSING else _BELOW
        if item.default is not dataclasses.MISSING:
            default = _yaml(item.default)
        meaning = comments.get(item.name, "")
        if not meaning and below is not None and item.name == "train":
            meaning = "its training run"
        found.append(Key(item.name, str(item.type), default, meaning, typing.cast("type | None", below)))
    return found


def page() -> str:
    """Every key with its default and meaning, as Markdown."""
    return _PAGE + "".join(_section(cls, path) for cls, path in _sections(Experiment, ""))


def _sections(cls: type, path: str) -> Iterator[tuple[type, str]]:
    yield cls, path
    for key in keys(cls):
        if key.below is not None:
            yield from _sections(key.below, f"{path}.{key.name}" if path else key.name)


def _section(cls: type, path: str) -> str:
    text = inspect.getdoc(cls) or ""
    text = re.sub(r":\w+:`~?[\w.]*?(\w+)`", r"`\1`", text).replace("``", "`").strip()
    rows = [
        [f"`{key.name}`", key.kind, "**must be given**" if key.default is None else f"`{key.default}`", key.meaning]
        for key in keys(cls)
    ]
    table = rows_of(["key", "kind", "default", "meaning"], rows)
    return "\n".join(["", f"## {path or 'The whole file'}", "", text, "", table, ""])


def template() -> str:
    """An experiment to begin with, as YAML; what has a default is behind #."""
    return _START + "\n".join(_lines(Experiment, "")) + "\n"


def _lines(cls: type, indent: str) -> Iterator[str]:
    for key in keys(cls):
        said = f"  # {key.meaning}" if key.meaning else ""
        if key.below is not None and any(each.default is None for each in keys(key.below)) and key.default is None:
            yield f"{indent}{key.name}:{said}"
            yield from _lines(key.below, indent + "  ")
        elif key.default is None:
            yield f"{indent}{key.name}: {_FILLED[key.name]}{said}"
        elif key.below is None or key.default != _BELOW:
            yield f"{indent}# {key.name}: {key.default}{said}"


def _yaml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f'"{value}"' if isinstance(value, str) and (not value or value.isdigit()) else str(value)


if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs" / "configuration.md").write_text(page(), encoding="utf-8")
    (TEMPLATE / "experiment.yaml").write_text(template(), encoding="utf-8")
