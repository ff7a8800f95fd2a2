"""``diffma train`` on a tiny prepared experiment, alone and as two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from DiffMaCore.cli.main import main
from DiffMaCore.training.run_folder import read_metrics
from Testing.training.tiny_cache import make_tiny_cache

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared experiment's YAML file and folder; nothing in it is trained."""
    root = tmp_path_factory.mktemp("experiment")
    experiment, folders = make_tiny_cache(root)
    return write_config(root / "tiny.yaml", asdict(experiment)), folders.root


@pytest.fixture(scope="module")
def trained(prepared):
    """The same with the embedder and a denoiser."""
    config, out = prepared
    for what in ("embedder", "denoiser"):
        assert main(["train", what, "--config", str(config), "--out", str(out), "--device", "cpu"]) == 0
    return config, out


def write_config(path, values):
    path.write_text(yaml.safe_dump(json.loads(json.dumps(values))))  # tuples become lists
    return path


def changed(prepared, tmp_path, **denoiser):
    config, out = prepared
    values = yaml.safe_load(config.read_text())
    train = {**values["denoiser"]["train"], **denoiser.pop("train", {})}
    values["denoiser"] = {**values["denoiser"], **denoiser, "train": train}
    return ["--config", str(write_config(tmp_path / "changed.yaml", values)), "--out", str(out), "--device", "cpu"]


def test_without_data_it_names_the_command_that_prepares_it(prepared, tmp_path, capsys):
    assert main(["train", "embedder", "--config", str(prepared[0]), "--out", str(tmp_path)]) == 2
    assert "run `diffma prepare` with the same configuration first" in capsys.readouterr().err


# before `trained`, which has one
def test_without_an_embedder_it_names_the_command_that_trains_it(prepared, capsys):
    config, out = prepared
    assert main(["train", "denoiser", "--config", str(config), "--out", str(out), "--device", "cpu"]) == 2
    assert "run `diffma train embedder`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"batch_size": 6, "micro_batch": 4}}, "a batch_size of 4 or 8 would fit"),
        ({"patch_size": 3}, "denoiser.patch_size: "),
    ],
)
def test_sizes_that_cannot_be_are_told_before_training(prepared, tmp_path, capsys, changes, message):
    assert main(["train", "denoiser", *changed(prepared, tmp_path, **changes)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"), [(["--backbone", "vimm"], "did you mean vim?"), (["--steps", "0"], "0 steps cannot work")]
)
def test_options_that_cannot_be_are_told(prepared, capsys, words, message):
    config, out = prepared
    assert main(["train", "denoiser", "--config", str(config), "--out", str(out), *words]) == 2
    assert message in capsys.readouterr().err


def test_embedder_and_denoiser_leave_a_model_and_a_bundle(trained):
    _, out = trained
    assert (out / "embedder" / "model" / "config.json").is_file()
    run = out / "systems" / "diffma"
    assert (run / "bundle" / "model_index.json").is_file()
    account = json.loads((run / "run.json").read_text())
    assert account["status"] == "finished"
    assert account["config"]["name"] == "tiny"
    assert account["sessions"][0]["command"][:3] == ["diffma", "train", "denoiser"]
    assert str(out) not in json.dumps(account["sessions"])


def test_made_longer_it_goes_on_and_tells_a_program_how_it_goes(trained, capsys):
    config, out = trained
    words = ["--config", str(config), "--out", str(out), "--device", "cpu", "--steps", "6", "--progress", "json"]
    assert main(["train", "denoiser", *words]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stage = next(event for event in events if event.get("stage", "").startswith("training"))
    assert (stage["done"], stage["total"]) == (4, 6)
    last = [event for event in events if event["event"] == "progress"][-1]
    assert last["step"] == 6
    assert last["figures"]["loss"] > 0
    assert events[-1]["event"] == "result"
    assert events[-1]["result"].endswith("bundle")


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_and_one_of_them_talks(trained, tmp_path):
    config, out = trained
    two = tmp_path / "two"
    two.mkdir()
    for name in ("data", "embedder"):
        (two / name).symlink_to(out / name)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = ["-m", "DiffMaCore", "train", "denoiser", "--config", str(config), "--out", str(two), "--progress", "json"]
    child = subprocess.run(
        [*launcher, *words],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert child.returncode == 0, child.stderr
    events = [json.loads(line) for line in child.stdout.splitlines()]
    assert [event["event"] for event in events].count("hello") == 1
    losses = [
        [row["loss"] for row in read_metrics(folder / "systems" / "diffma" / "metrics.csv")[:4]]
        for folder in (two, out)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    account = json.loads((two / "systems" / "diffma" / "run.json").read_text())
    assert account["sessions"][0]["processes"] == 2


def test_the_script_forwards_to_the_command(tmp_path, capsys):
    script = str(ROOT / "Training" / "train.py")
    words = ["denoiser", "--config", str(tmp_path / "none.yaml")]
    child = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert child.returncode == 2
    assert "there is no configuration" in child.stderr
