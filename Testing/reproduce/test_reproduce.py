"""`python -m Training.reproduce`: what is missing is run, what is there is not, and the report tells all of it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from DiffMaCore.cli.main import main
from DiffMaCore.errors import InputError, TrainingError
from DiffMaCore.progress import Reporter
from DiffMaCore.training.experiment import Experiment, Folders
from Testing.reproduce.fabricated import evaluated, measured_tokens, trained
from Testing.training.tiny_cache import make_tiny_cache, tiny_experiment
from Training.reproduce.__main__ import PARTS, build_parser
from Training.reproduce.plan import NEEDS, ReproduceOptions, Step, make_plan, run_plan
from Training.reproduce.writing import write_report

SYSTEMS = ("diffma", "regression")
TOKENS = ("--tokens", "196", "784", "3136")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Folders, Path]:
    """Data of an experiment of two systems, and its configuration as a file."""
    root = tmp_path_factory.mktemp("reproduce")
    experiment, folders = make_tiny_cache(root, systems=SYSTEMS)
    config = root / "tiny.yaml"
    config.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(experiment)))))
    return experiment, folders, config


def _reproduce(config: Path, folders: Folders, *words: str) -> int:
    return main(["--config", str(config), "--out", str(folders.root), "--device", "cpu", *words], build_parser())


def test_it_runs_what_is_missing_writes_the_report_and_the_next_time_runs_nothing(
    prepared: tuple[Experiment, Folders, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folders, config = prepared
    assert _reproduce(config, folders, "--plan", *TOKENS) == 0
    plan_before = capsys.readouterr().out
    assert "[x] prepare the data" in plan_before and "[ ] train DiffMa (ours)" in plan_before
    assert not folders.report.exists() and "[ ] time and memory at 196, 784, 3136 tokens" in plan_before
    measured_tokens(folders)

    assert _reproduce(config, folders, *TOKENS) == 0
    facts = json.loads((folders.report / "report.json").read_text(encoding="utf-8"))
    assert facts["missing"] == {} and [row["key"] for row in facts["table2"] if row["kind"] == "system"]
    assert facts["tokens"]["crossover"]["tokens"] == 464
    for name in ("index.html", "report.md"):
        text = (folders.report / name).read_text(encoding="utf-8")
        for picture in set(re.findall(r'(?:src="|\]\()([\w.]+\.png)', text)):
            assert (folders.report / picture).is_file()
    for picture in ("figure1", "figure5", "figure6", "figure7", "figure7_curves", "calibration", "tokens"):
        assert f"{picture}.png" in text

    capsys.readouterr()
    assert _reproduce(config, folders, "--plan", *TOKENS) == 0
    assert "[ ]" not in capsys.readouterr().out


def test_another_embedder_data_set_or_setting_is_not_taken_for_done(prepared: tuple[Experiment, Folders, Path]) -> None:
    experiment, folders, _ = prepared
    options = ReproduceOptions(parts=("table2",), device="cpu")
    if not make_plan(experiment, folders, options)[-1].done:
        pytest.skip("the trained experiment of the test before is needed")

    def to_do(changed: Experiment) -> list[str]:
        return [step.key for step in make_plan(changed, folders, options) if not step.done]

    asked = replace(experiment, evaluation=replace(experiment.evaluation, samples=3))
    assert to_do(asked) == ["evaluate"]
    longer = replace(experiment.denoiser, train=replace(experiment.denoiser.train, steps=5))
    assert to_do(replace(experiment, denoiser=longer)) == ["diffma", "regression", "evaluate"]
    contrast = replace(experiment.embedder, noise=0.1)
    assert to_do(replace(experiment, embedder=contrast)) == ["embedder", "diffma", "regression", "evaluate"]
    with pytest.raises(InputError, match=r"data\.pixel_spacing"):
        to_do(replace(experiment, data=replace(experiment.data, pixel_spacing=5.0)))


def test_a_part_asks_only_for_what_it_needs(prepared: tuple[Experiment, Folders, Path]) -> None:
    experiment, folders, _ = prepared

    def keys(*parts: str) -> list[str]:
        return [step.key for step in make_plan(experiment, folders, ReproduceOptions(parts=parts))]

    assert tuple(NEEDS) == PARTS
    assert keys("table1") == [] and keys("tokens") == ["tokens"]
    assert keys("figure1", "tokens") == ["prepare", "embedder", "tokens"]
    assert keys("table2") == ["prepare", "embedder", "diffma", "regression", "evaluate"]


def test_what_cannot_be_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    experiment, folders = tiny_experiment(tmp_path), Folders(tmp_path / "run")
    with pytest.raises(InputError, match=r"name the data set: python -m Training\.reproduce DATASET"):
        make_plan(experiment, folders, ReproduceOptions())
    with pytest.raises(InputError, match="'table3'; its parts are table1"):
        make_plan(experiment, folders, ReproduceOptions(parts=("table3",)))
    with pytest.raises(InputError, match="no square grid"):
        make_plan(experiment, folders, ReproduceOptions(parts=("tokens",), tokens=(5,)))
    assert not folders.root.exists()


def test_a_system_that_fails_does_not_keep_the_others_from_being_trained() -> None:
    ran: list[str] = []

    def step(key: str, error: Exception | None = None, done: str = "") -> Step:
        def run(reporter: Reporter) -> None:
            ran.append(key)
            if error:
                raise error

        return Step(key, key, done, run)

    steps = [step("embedder", done="8 steps"), step("vim", TrainingError("nan at step 3")), step("diffma")]
    assert run_plan(steps, Reporter()) == {"vim": "nan at step 3"}
    assert ran == ["vim", "diffma"]
    with pytest.raises(InputError):
        run_plan([step("evaluate", InputError("no test case"))], Reporter())


def test_a_report_of_an_unfinished_experiment_says_what_is_missing(tmp_path: Path) -> None:
    experiment, folders = make_tiny_cache(tmp_path)
    trained(experiment, folders, "diffma")
    evaluated(experiment, folders, ("diffma",))
    page = write_report(experiment, folders, {"vim": "the loss is nan"}).read_text(encoding="utf-8")
    assert "Missing: ViM: the loss is nan" in page and "Missing: DiT: not trained yet" in page
    assert "Missing: the Vision Embedder is not trained yet" in page
    assert "Missing: not measured yet; <code>python -m Training.reproduce --only tokens</code> does" in page
    assert experiment.title in page and "Research only" in page and "DEMO" in page
    assert "abc123 (with changes)" in page and "45.41" in page


def test_without_any_data_the_report_still_has_table_1(tmp_path: Path) -> None:
    experiment, folders = tiny_experiment(tmp_path), Folders(tmp_path / "run")
    page = write_report(experiment, folders).read_text(encoding="utf-8")
    assert "DiffMa-XXL/2" in page and page.count("no data is prepared yet") == 3


def test_text_from_a_configuration_cannot_become_markup(tmp_path: Path) -> None:
    card: Any = replace(tiny_experiment(tmp_path).card, training_data="<b>heads</b> & necks")
    experiment = replace(tiny_experiment(tmp_path), card=card)
    page = write_report(experiment, Folders(tmp_path / "run")).read_text(encoding="utf-8")
    assert "&lt;b&gt;heads&lt;/b&gt; &amp; necks" in page and "<b>" not in page
