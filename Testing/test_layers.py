"""The package's layers point one way: a module imports from layers below its own, and no modules import in a circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYERS = (
    ("errors", "configuring", "files", "reports", "progress", "devices", "packages", "cluster", "presets"),
    ("ops", "imaging", "bundles"),
    ("models",),
    ("baselines",),
    ("diffusion",),
    ("inference",),
    ("training",),
    ("cli",),
    ("__main__",),
    ("benchmarks",),
    ("Training",),
)
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
FILES = {
    ".".join((path.parent if path.name == "__init__.py" else path.with_suffix("")).relative_to(ROOT).parts): path
    for folder in ("DiffMaCore", "benchmarks", "Training")
    for path in (ROOT / folder).rglob("*.py")
}


def _imports(module: str) -> set[str]:
    """Our modules that a module imports anywhere in it: in functions and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively, which hides its layer"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & FILES.keys() or {str(node.module)}
    return found & FILES.keys() - {module, "DiffMaCore"}


def _layer(module: str) -> str:
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "DiffMaCore" else first


IMPORTS = {module: _imports(module) for module in FILES if module != "DiffMaCore"}


def test_a_layer_imports_only_from_those_below() -> None:
    pairs = [(module, other) for module, others in IMPORTS.items() for other in others]
    assert len(pairs) > 500
    assert [
        f"{module} -> {other}"
        for module, other in pairs
        if _layer(module) != _layer(other) and HEIGHT[_layer(module)] <= HEIGHT[_layer(other)] > 0
    ] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter(IMPORTS).prepare()
