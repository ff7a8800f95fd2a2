"""README and documentation: short, whole, built without a warning, and true to the code."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import SimpleITK as sitk

from DiffMaCore.bundles import store
from DiffMaCore.cli.main import build_parser
from DiffMaCore.configuring import load_config
from DiffMaCore.training.experiment import TEMPLATE, Experiment, write_template
from Testing.images import head_like_ct
from Training.configuration_keys import keys, page, template

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "Training" / "examples"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")


def test_the_readme_is_read_in_a_minute() -> None:
    assert len(text(ROOT / "README.md").split()) <= 600


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed; it is in the extra test")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed; it is in the extra test")
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=_environment())
    assert (done.returncode, [line for line in done.stderr.splitlines() if line.startswith(("WARN", "ERR"))]) == (0, [])
    assert "num_inference_steps" in text(tmp_path / "python" / "index.html")
    assert (tmp_path / "Screenshots" / "real_head.png").is_file()


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_pictures_and_anchors_hold(path: Path) -> None:
    for target, fragment in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text(path)):
        if "://" in target:
            continue
        there = path.parent / target if target else path
        assert there.exists(), target
        if fragment:
            assert fragment in map(anchor, re.findall(r"(?m)^#+ (.+)", text(there))) or "::: " in text(there), fragment


def test_every_picture_is_shown_somewhere() -> None:
    told = "".join(map(text, [*PAGES, ROOT / "CMakeLists.txt"]))
    assert [path.name for path in (ROOT / "Screenshots").glob("*.png") if path.name not in told] == []


def test_every_page_is_reached_from_the_navigation() -> None:
    told = text(ROOT / "mkdocs.yml")
    assert [path.name for path in (ROOT / "docs").glob("*.md") if path.name not in told] == []


def test_the_command_page_names_every_command() -> None:
    (subparsers,) = (action for action in build_parser()._actions if action.choices)
    told = set(re.findall(r"(?m)^\| `diffma ([\w-]+)`", text(ROOT / "docs" / "command-line.md")))
    assert told == set(subparsers.choices)


def test_every_part_of_the_paper_is_where_its_page_says() -> None:
    rows = re.findall(r"(?m)^\| ([^|]+) \| `([\w/.]+)` \| `(\w+)` \|", text(ROOT / "docs" / "paper.md"))
    for part, file, name in rows:
        tree = ast.parse(text(ROOT / file))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert name in defined, (part, file, name)
    parts = " ".join(part for part, _, _ in rows)
    for number in (1, 3, 5, 6, 7, 8, 9, 10):
        assert re.search(rf"Eqs?\.[^|]*\b{number}\b", parts), number
    for word in ("LDM", "DiT", "EMamba", "ZigMa", "ViM", "VMamba", "Table 1", *(f"Figure {n}" for n in range(1, 5))):
        assert word in parts, word


def test_the_page_of_keys_is_made_from_the_code() -> None:
    assert text(ROOT / "docs" / "configuration.md") == page()
    assert text(TEMPLATE / "experiment.yaml") == template()


def test_every_key_has_a_meaning() -> None:
    def without(cls: type) -> list[str]:
        found = [key.name for key in keys(cls) if not key.meaning]
        return found + [name for key in keys(cls) if key.below for name in without(key.below)]

    assert without(Experiment) == []


def test_the_template_is_an_experiment_and_is_not_written_twice(tmp_path: Path) -> None:
    experiment_file, pairs = write_template(tmp_path / "new")
    assert load_config(experiment_file, Experiment).data.target == "mr"
    assert pairs.read_text().startswith("id,ct,mr,")
    whole = re.sub(r"(?m)^(\s*)# (\w+: )", r"\1\2", experiment_file.read_text().split("bundle\n", 1)[1])
    experiment_file.write_text(whole)
    assert load_config(experiment_file, Experiment) == load_config(_filled(tmp_path), Experiment)
    with pytest.raises(Exception, match="is there already"):
        write_template(tmp_path / "new")


def _filled(folder: Path) -> Path:
    return write_template(folder / "again")[0]


def test_versions_agree() -> None:
    from DiffMaCore import __version__

    assert f"\nversion: {__version__}\n" in text(ROOT / "CITATION.cff")
    assert f"\n## {__version__}" in text(ROOT / "CHANGELOG.md")


NOTEBOOKS = {
    "convert": "head_mr_uncertainty.nii.gz",
    "own_scheduler": "head_sample.nii.gz",
    "own_pairs": "own/synthetic.nii.gz",
}


@pytest.fixture
def tiny_demo(tmp_path: Path, expecting_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks in the demo's place: the code is run for its words."""
    shutil.copytree(expecting_bundle, tmp_path / "bundles" / "demo")
    monkeypatch.setattr(store, "_BUNDLED", tmp_path / "bundles")


@pytest.mark.parametrize(("name", "made"), NOTEBOOKS.items())
def test_the_cells_of_a_notebook_run_in_their_order(
    name: str, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if name != "own_pairs":  # which trains on the demo's own networks
        request.getfixturevalue("tiny_demo")
    monkeypatch.chdir(tmp_path)
    book = json.loads(text(EXAMPLES / f"{name}.ipynb"))
    cells = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    named: dict[str, object] = {}
    for cell in cells:
        exec(compile(cell, name, "exec"), named)
    assert (tmp_path / made).is_file()
    lines = [line for line in cells[0].splitlines() if line and not line.startswith(("import ", "from "))]
    assert len(lines) <= 10 or name == "own_pairs"


def test_every_notebook_is_clean_and_on_the_page_of_python() -> None:
    assert {path.stem for path in EXAMPLES.iterdir()} == NOTEBOOKS.keys()
    for name in NOTEBOOKS:
        book = json.loads(text(EXAMPLES / f"{name}.ipynb"))
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in book["cells"])
        assert f"{name}.ipynb" in text(ROOT / "docs" / "python.md")


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "python.md"], ids=lambda path: path.name)
def test_a_pages_python_runs_as_it_stands(
    page: Path, tmp_path: Path, tiny_demo: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"(?s)```python\n(.*?)```", text(page))
    monkeypatch.chdir(tmp_path)
    sitk.WriteImage(head_like_ct(), "head_ct.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # of diffusers with NumPy 2
        exec(compile(code, page.name, "exec"), {})
    assert (tmp_path / "head_mr.nii.gz").is_file()
    assert "Warning" not in capfd.readouterr().err
