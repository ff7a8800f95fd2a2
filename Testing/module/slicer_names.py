"""Collects from the module's Python and .ui files every name that only Slicer, CTK, Qt or VTK can answer.

``qt.X``, ``ctk.X``, ``slicer.X``, ``vtk.X`` in full, names imported from Slicer's modules, signals in ``connect()``,
attributes that neither our own code nor Python defines, and the classes, properties and signals of the .ui files.
"""

from __future__ import annotations

import ast
import builtins
import csv
import importlib
import io
import sys
from collections.abc import Iterable, Iterator
from datetime import timezone
from pathlib import Path
from subprocess import Popen
from unittest import TestCase
from xml.etree import ElementTree

import numpy as np

ROOTS = ("qt", "ctk", "slicer", "vtk")
OWN = ("DiffMaSlicerLib", "DiffMaSlicer", "numpy")


def names_in_python(paths: Iterable[Path], own: set[str]) -> dict[str, str]:
    """Names to the first place (file:line) that uses them; ``own`` are attributes that our files define."""
    found: dict[str, str] = {}
    for path in paths:
        for name, line in _names(ast.parse(path.read_text(encoding="utf-8")), own):
            found.setdefault(name, f"{path.name}:{line}")
    return found


def names_in_ui(paths: Iterable[Path]) -> dict[str, str]:
    """Widget classes, their properties, and the signals and slots that .ui files connect."""
    found: dict[str, str] = {}
    for path in paths:
        tree = ElementTree.parse(path).getroot()
        classes = {widget.get("name", ""): widget.get("class", "") for widget in tree.iter("widget")}
        for widget in [*tree.iter("widget"), *tree.iter("layout"), *tree.iter("spacer")]:
            kind = widget.get("class", "QSpacerItem")
            found.setdefault(f"ui {kind}", path.name)
            for setting in widget.findall("property"):
                if setting.get("stdset") != "0":  # "0" marks a dynamic property, which any object takes
                    found.setdefault(f"ui {kind}.{setting.get('name')}", path.name)
        for connection in tree.iter("connection"):
            for end, what in (("sender", "signal"), ("receiver", "slot")):
                kind = classes.get(connection.findtext(end, ""), "?")
                found.setdefault(f"ui {kind}.{connection.findtext(what)}", path.name)
    return found


def own_names(python: Iterable[Path], ui: Iterable[Path]) -> set[str]:
    """Attributes that our own code defines, those of Python's own objects, and the object names of the .ui files."""
    known = _python_names()
    for path in python:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            known.update(_defined(node))
    for path in ui:
        known.update(
            node.get("name", "") for node in ElementTree.parse(path).getroot().iter() if node.tag != "property"
        )
    return known


def _defined(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Attribute):
        if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            yield node.attr
    elif isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Store):
            yield node.id
    elif isinstance(node, ast.Import):
        for alias in node.names:
            yield from _standard(alias.name)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield from _standard(node.module or "", [alias.name for alias in node.names])


def _names(tree: ast.Module, own: set[str]) -> Iterator[tuple[str, int]]:
    roots, imported = set(ROOTS), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name for alias in node.names if _foreign(alias.name)}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and _foreign(node.module or ""):
            imported += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    yield from imported
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inside:
            chain, parts = _chain(node)
            inside |= {id(part) for part in parts}
            if chain[0] in roots:
                yield ".".join(chain), node.lineno
            else:
                yield from ((f"attribute {part.attr}", part.lineno) for part in parts if part.attr not in own)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            first = node.args[0] if node.args else None
            if node.func.attr in ("connect", "disconnect") and isinstance(first, ast.Constant):
                yield f"signal {first.value!s}", node.lineno


def _chain(node: ast.expr) -> tuple[list[str], list[ast.Attribute]]:
    """``a.b.c`` as names and nodes, outermost attribute last; the first name is "" for anything but a plain name."""
    names: list[str] = []
    parts: list[ast.Attribute] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        parts.append(node)
        node = node.value
    return [node.id if isinstance(node, ast.Name) else "", *names], parts


def _foreign(module: str) -> bool:
    top = module.split(".")[0]
    return bool(top) and top not in sys.stdlib_module_names and top not in OWN


def _standard(module: str, names: Iterable[str] = ()) -> Iterator[str]:
    """What a module of Python's own library offers, and what the imported names in it offer."""
    if module.split(".")[0] in sys.stdlib_module_names:
        loaded = importlib.import_module(module)
        yield from dir(loaded)
        for name in names:
            yield from dir(getattr(loaded, name, None))


def _python_names() -> set[str]:
    builtin = [kind for kind in vars(builtins).values() if isinstance(kind, type)]  # PySide6 puts its qApp there, too
    things = [
        *builtin,
        Path,
        Path().stat(),
        Popen,
        io.BufferedReader,
        csv.writer(io.StringIO()),
        (_ for _ in ()),
        timezone,
    ]
    things += [TestCase, np, np.ndarray, np.dtype, np.linalg, np.lib.format]
    windows_only = {
        "BELOW_NORMAL_PRIORITY_CLASS",
        "CREATE_NEW_PROCESS_GROUP",
        "CREATE_NO_WINDOW",
        "STARTUPINFO",
        "startfile",
    }
    return windows_only | {name for thing in things for name in dir(thing)}
