"""Reads the lists of a CMakeLists.txt, as far as ours need it: ``set(NAME item ...)`` and ``${NAME}``."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def cmake_lists(path: Path) -> dict[str, list[str]]:
    """Every ``set()`` of the file, in order: name to items, variables replaced, quotes kept as one item."""
    text = re.sub(r'(?m)^\s*#.*$|(?<=\s)#[^"\n]*$', "", path.read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for name, body in re.findall(r'\bset\(\s*(\w+)\s+((?:"[^"]*"|[^")])*)\)', text):
        items = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', body)]
        found[name] = [re.sub(r"\$\{(\w+)\}", lambda match: _value(found, match), item) for item in items]
    return found


def _value(found: dict[str, list[str]], match: re.Match[str]) -> str:
    return ";".join(found[match[1]]) if match[1] in found else match[0]


def files_on_disk(folder: Path) -> set[str]:
    """The folder's files as a release holds them: no caches, no CMakeLists.txt, relative with slashes."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name not in ("CMakeLists.txt", ".DS_Store")
    }
