"""README and documentation: short, whole, built without a warning, and true to the code."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.cli.main import _add_common_options, build_parser, main
from DiffMaCore.configuring import load_config
from DiffMaCore.training.experiment import Experiment
from DiffMaCore.training.template import keys, page, write_template
from Testing.imaging.dicom_files import head_hu, write_series

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")


def commands() -> list[str]:
    """Every ``diffma`` command of a shell block, without what surrounds it."""
    found = []
    for path in PAGES:
        for block in re.findall(r"(?s)```sh\n(.*?)```", text(path)):
            for line in block.replace("\\\n", " ").splitlines():
                found += re.findall(r"(?:(?:^|/)diffma|-m DiffMaCore) ([a-z][^#&]*)", line)
    return sorted({command.strip() for command in found})


def test_the_readme_is_read_in_a_minute() -> None:
    assert len(text(ROOT / "README.md").split()) <= 600


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed; it is in the extra docs")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed; it is in the extra docs")
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


def test_every_page_is_reached_from_the_navigation() -> None:
    told = text(ROOT / "mkdocs.yml")
    assert [path.name for path in (ROOT / "docs").glob("*.md") if path.name not in told] == []


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one_that_the_command_line_takes(command: str) -> None:
    parser = build_parser()
    _add_common_options(parser)
    parser.parse_args(shlex.split(command))


def test_what_the_command_page_converts_and_checks_comes_out(
    expecting_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line under Convert and Check, by tiny networks in the demos' place."""
    from DiffMaCore.bundles import store

    for name in ("demo", "demo-t2"):
        shutil.copytree(expecting_bundle, tmp_path / "bundles" / name)
    monkeypatch.setattr(store, "_BUNDLED", tmp_path / "bundles")
    monkeypatch.chdir(tmp_path)
    image = thin_head()
    for name in ("head_ct.nii.gz", "a.nii.gz", "b.nrrd", "cohort/c.nii", "cohort/d.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / name))
    sitk.WriteImage(sitk.Cast(image > -500, sitk.sitkUInt8), "brain.nrrd")
    sitk.WriteImage(sitk.Cast(image + 1024, sitk.sitkFloat32), "true_mr.nii.gz")
    write_series(make_folder(tmp_path / "DICOM_FOLDER"), sitk.GetArrayFromImage(image).astype(np.int16))
    page = text(ROOT / "docs" / "command-line.md")
    ran = [words for heading in ("Convert", "Check") for words in lines_below(page, heading)]
    assert len(ran) == 11
    assert {" ".join(words): main(words) for words in ran if words[0] != "check-result"} == {
        " ".join(words): 0 for words in ran if words[0] != "check-result"
    }
    assert len(list((tmp_path / "RESULTS").iterdir())) == 4 and (tmp_path / "head_mr_uncertainty.nii.gz").is_file()


def lines_below(page: str, heading: str) -> list[list[str]]:
    block = re.findall(rf"(?s)\n## {heading}\n.*?```sh\n(.*?)```", page)[0]
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


def make_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def thin_head() -> sitk.Image:
    """A ball of brain in a skull, of 64 slices, which is soon converted."""
    image = sitk.GetImageFromArray(head_hu(slices=64).astype(np.float32))
    image.SetSpacing((6.0, 6.0, 3.0))
    return image


def test_the_commands_are_found() -> None:
    assert len(commands()) > 25


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


@pytest.mark.parametrize("name", ["convert", "own_scheduler"])
def test_an_example_converts_a_ct(name: str, tmp_path: Path) -> None:
    from DiffMaCore.imaging.phantom import head_phantom

    ct = head_phantom(1).ct_image()
    middle = ct.GetSize()[2] // 2
    sitk.WriteImage(ct[:, :, middle : middle + 2], str(tmp_path / "ct.nii"))
    words = [sys.executable, str(ROOT / "Training" / "examples" / f"{name}.py"), "ct.nii", "mr.nii"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=_environment())
    assert done.returncode == 0, done.stderr
    assert sitk.ReadImage(str(tmp_path / "mr.nii")).GetSize() == ct[:, :, :2].GetSize()


def test_the_readmes_python_runs_as_it_stands(tmp_path: Path) -> None:
    from DiffMaCore.imaging.phantom import head_phantom

    (code,) = re.findall(r"(?s)```python\n(.*?)```", text(ROOT / "README.md"))
    ct = head_phantom(1).ct_image()
    middle = ct.GetSize()[2] // 2
    sitk.WriteImage(ct[:, :, middle : middle + 2], str(tmp_path / "head_ct.nii.gz"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=_environment()
    )
    assert done.returncode == 0 and (tmp_path / "head_mr.nii.gz").is_file(), done.stderr
    assert "Warning" not in done.stderr
