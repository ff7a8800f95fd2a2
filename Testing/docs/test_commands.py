"""Every command of README and documents is run as it is written, on small inputs, or stands below with the reason.

The networks are tiny ones under the names that the documents use, and the configurations small ones under theirs: a
command is run for its words. What comes out of it is judged by the tests of that command.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml

from DiffMaCore.cli.main import build_parser, main
from DiffMaCore.imaging.phantom import bundled_head
from Testing.bundles.released_files import denoiser_state, embedder_state, save_checkpoint
from Testing.heads import HEAD
from Testing.images import head_images
from Testing.imaging.dicom_files import write_series
from Testing.training.heads_run import heads_experiment, write_config
from Testing.training.synthrad import write_synthrad

pytestmark = pytest.mark.usefixtures("coarse_heads", "one_reader")

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = r"(diffma|python3?|accelerate|torchrun|sbatch|pip (install|download)|PythonSlicer|Slicer|sed|twine) *"
ALONE = {"diffma info", "diffma packages", "diffma summary", "diffma demo", "diffma benchmark scan", "python -m build"}
"""Commands that the text names and that take nothing; others without arguments are names of commands."""

IDS = ("1BA001", "1BA005", "1BB002", "1BB011", "1BC003")
SMALL = {
    "data": {"image_size": 32, "pixel_spacing": 7.2, "split": {"validation": 0.0, "test": 0.0}},
    "embedder": {"train": {"steps": 2, "batch_size": 8}},
    "denoiser": {"width": 32, "depth": 1, "train": {"steps": 2, "batch_size": 4, "workers": 0}},
    "guided_decoder": {
        **{"channels": [8, 8, 16], "error_channels": [8, 8, 8], "blocks": 1},
        "train": {"steps": 2, "batch_size": 4, "workers": 0},
    },
    "joint": {"train": {"steps": 2, "batch_size": 4, "workers": 0}},
    "evaluation": {"steps": 1, "samples": 1},
}

ELSEWHERE = {
    r"python3 -m venv |pip install|pip download|PythonSlicer -m pip": "fetches packages; the wheel's test installs one",
    r"python -m pytest": "is what runs this",
    r"python -m build|twine": "Testing/docs/test_publishing.py",
    r"accelerate launch|torchrun|sbatch": "needs several GPUs or machines; Testing/training/trainer starts two",
    r"--cluster": "needs several processes or machines; Testing/cli/test_convert_cluster.py",
    r"--device cuda": "needs an NVIDIA GPU",
    r"python -m benchmarks": "takes minutes of an idle machine; Testing/benchmarks runs each on small shapes",
    r"diffma benchmark (scan|step)": "times the machine; Testing/inference/test_benchmark.py runs it on small shapes",
    r"python -m Training\.reproduce": "trains every system; Testing/reproduce runs it on fabricated runs",
    r"python -m Training\.average": "Testing/training/test_average.py",
    r"python -m Training\.transfer_labels": "registers for minutes; Testing/training/test_transfer_labels.py",
    r"python -m Testing\.": "Testing/bundles runs a share of it",
    r"Slicer --|PythonSlicer": "needs 3D Slicer",
    r"diffma models complete": "fetches from a hub; Testing/cli/test_models_command.py completes from folders",
    r"diffma models move": "Testing/cli/test_models_command.py",
    r"diffma evaluate --bundle": "renders heads for minutes; Testing/training/evaluation/test_judging_bundles.py",
    r"--backbone NAME": "Testing/training/trainer/test_train_command.py trains several",
    r"python -m Training\.configuration_keys": "Testing/docs/test_documentation.py compares what it writes",
    r"diffma demo$": "Testing/cli/test_demo_command.py",
    r"\.\.\.|--help$": "stands for other commands, or only prints",
    r"--parent-watchdog": "ends with its standard input; Testing/cli/test_watchdog.py",
    r"^sed ": "changes the repository; Testing/docs/test_publishing.py runs it on a copy",
}
"""What is not run here, and why or where."""


def commands(path: Path) -> list[str]:
    """Commands of a page in their order: lines of shell blocks, and what the text writes out with its arguments."""
    found = []
    for kind, block, inline in re.findall(r"(?s)```(\w*)\n(.*?)```|`([^`\n]+)`", path.read_text(encoding="utf-8")):
        lines = (block if kind == "sh" else inline).replace("\\\n", " ").splitlines()
        for part in (part for line in lines for part in re.sub(r"\s+#.*", "", line).split(" && ")):
            words = " ".join(re.sub(r"^\S*bin/", "", part.strip()).split())
            whole = kind == "sh" or words in ALONE or re.search(r" (\S*[A-Z/.]|-\w? ?\S+\.|--)", words)
            if re.match(PROGRAMS, words) and whole:
                found.append(words)
    return found


def run_here(training: bool) -> list[list[str]]:
    """What is run by these tests, as ``main`` takes it: of the page of training, or of all others, there once each."""
    pages = [path for path in PAGES if (path.name == "training.md") == training]
    chosen = [each for path in pages for each in commands(path) if not any(re.search(form, each) for form in ELSEWHERE)]
    return [shlex.split(each)[1:] for each in (chosen if training else dict.fromkeys(chosen))]


def test_every_command_is_one_that_the_command_line_takes() -> None:
    parser = build_parser()
    told = [each for path in PAGES for each in commands(path)]
    assert len(told) > 60
    for each in told:
        match = re.match(r"(?:diffma|.* -m DiffMaCore) +([a-z].*)", each)
        if match and not re.search(r"\.\.\.|COMMAND", each):
            parser.parse_args(shlex.split(match[1]))


def test_only_diffmas_own_commands_are_left_to_run_and_every_reason_is_needed() -> None:
    told = [each for path in PAGES for each in commands(path)]
    for form in ELSEWHERE:
        assert any(re.search(form, each) for each in told), form
    left = [each for each in told if not any(re.search(form, each) for form in ELSEWHERE)]
    assert [each for each in left if not re.match(r"diffma ", each)] == []


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expecting_bundle: Path) -> Path:
    """A folder with the inputs that the pages name, and tiny networks in the demos' place."""
    from DiffMaCore.bundles import store

    for name in ("demo", "demo-t2", "demo-flair"):
        shutil.copytree(expecting_bundle, tmp_path / "bundles" / name)
    monkeypatch.setattr(store, "_BUNDLED", tmp_path / "bundles")
    monkeypatch.setenv("DIFFMA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    ct, mr = head_images("t1", (40, 49, 46), (4, 4, 4))
    sitk.WriteImage(ct, "head_ct.nii.gz")
    Path("cohort").mkdir()
    for name in ("a.nii.gz", "b.nrrd", "cohort/c.nii", "cohort/d.nii"):
        sitk.WriteImage(ct[:, :, 20:26], name)
    sitk.WriteImage(mr, "true_mr.nii.gz")
    sitk.WriteImage(sitk.Cast(ct > -500, sitk.sitkUInt8), "brain.nrrd")
    Path("DICOM_FOLDER").mkdir()
    write_series(Path("DICOM_FOLDER"), sitk.GetArrayFromImage(ct).astype(np.int16))
    save_checkpoint(Path("DENOISER.pt"), denoiser_state())
    save_checkpoint(Path("EMB.pt"), embedder_state())
    return tmp_path


def test_the_commands_that_convert_and_ask_run_as_they_are_written(place: Path) -> None:
    ran = run_here(training=False)
    assert {" ".join(words): main(words) for words in ran} == {" ".join(words): 0 for words in ran}
    assert len(list(Path("RESULTS").iterdir())) == 4 and Path("head_mr_uncertainty.nii.gz").is_file()


@pytest.mark.slow
def test_the_commands_that_train_run_as_they_are_written(
    place: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SynthRAD's folders and the demo's own heads, by networks of two steps."""
    from DiffMaCore.training import fresh
    from DiffMaCore.training.sources import heads
    from Testing.training.test_heads_chain import RendersHere

    monkeypatch.setattr(heads, "bundled_heads", lambda: (HEAD,))
    monkeypatch.setattr(heads, "_head", bundled_head)
    monkeypatch.setattr(fresh, "load_head", lambda path, cache: bundled_head(str(path)))
    monkeypatch.setattr(fresh, "_FIRST", 2)
    monkeypatch.setattr(fresh, "Renderer", RendersHere)
    task = write_synthrad(place, IDS, slices=4, damage={"1BB011": "nan"})
    shutil.copy(task / "brain" / "1BA001" / "ct.nii.gz", "ct.nii.gz")
    Path("Training").mkdir()
    small = {**SMALL, "parts": dict.fromkeys(("vae", "image_encoder"), f"bundle:{tiny_bundle}")}
    brain = yaml.safe_load((ROOT / "Training" / "brain.yaml").read_text(encoding="utf-8"))
    Path("Training/brain.yaml").write_text(yaml.safe_dump(merged(brain, small)), encoding="utf-8")
    write_config(Path("Training/demo.yaml"), heads_experiment(place))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for words in run_here(training=True):
            assert main([*words, *(["--device", "cpu"] if words[0] in ("prepare", "train") else [])]) == 0, words
    finally:
        torch.set_num_threads(threads)
    assert "1BB011" in Path("runs/brain/data/report.md").read_text(encoding="utf-8").split("Left out", 1)[1]
    source, result = sitk.ReadImage("ct.nii.gz"), sitk.ReadImage("mr.nii.gz")
    assert result.GetSize() == source.GetSize() and result.GetDirection() == source.GetDirection()
    assert sitk.GetArrayViewFromImage(result).std() > 0


def merged(values: dict, changes: dict) -> dict:
    """``values`` with ``changes`` laid over them, section by section."""
    for key, change in changes.items():
        values[key] = merged(values.get(key, {}), change) if isinstance(change, dict) else change
    return values
