"""Tables 1 and 2 of the report: what is counted, what is measured, what is missing and why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from DiffMaCore.baselines.registry import TITLES
from DiffMaCore.training.evaluation.tables import read_results
from DiffMaCore.training.experiment import CardConfig, Experiment, Folders
from Testing.reproduce.fabricated import evaluated, trained
from Testing.training.tiny_cache import make_tiny_cache
from Training.reproduce.document import Table, Text
from Training.reproduce.paper import TABLE_2
from Training.reproduce.table1 import table1, table1_section
from Training.reproduce.table2 import table2_rows, table2_section


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Folders]:
    """Two systems and the regression evaluated, one failed, one stopped, the rest never begun."""
    experiment, folders = make_tiny_cache(tmp_path_factory.mktemp("report"))
    for backbone in ("diffma", "dit", "regression"):
        trained(experiment, folders, backbone)
    trained(experiment, folders, "vim", "failed", failure={"message": "the loss is nan at step 3"})
    trained(experiment, folders, "zigma", "stopped", step=2)
    evaluated(experiment, folders, ("diffma", "dit", "regression"))
    return experiment, folders


def test_the_papers_way_of_counting_gives_its_table_and_the_true_sizes_are_larger() -> None:
    rows = {row["name"]: row for row in table1()}
    assert len(rows) == 15
    for name, row in rows.items():
        printed = {"XXL/2": "XXL/4", "XXL/4": "XXL/2"}.get(name, name)  # the paper swaps these two
        assert row["parameters_without_mamba"] / 1e6 == pytest.approx(rows[printed]["table_parameters"], abs=0.02)
    assert rows["B/2"]["parameters"] / 1e6 == pytest.approx(45.407, abs=5e-4)
    assert rows["B/2"]["macs_released"] / 1e9 == pytest.approx(10.729, abs=0.01)


def test_table_1_marks_the_rows_that_the_paper_swapped() -> None:
    table = next(block for block in table1_section().blocks if isinstance(block, Table))
    assert [row[0] for row in table.rows if "*" in row[3]] == ["DiffMa-XXL/4", "DiffMa-XXL/2"]


def test_every_system_has_its_row_ranked_ones_first_and_the_missing_ones_say_why(
    run: tuple[Experiment, Folders],
) -> None:
    experiment, folders = run
    results = read_results(folders.evaluation / "test")
    rows = table2_rows(experiment, folders, results, {"unet": "its batch cannot be spread"})
    assert [row["key"] for row in rows[:3]] == ["regression", "diffma", "dit"]
    assert {row["key"] for row in rows} == {*TITLES, "vae_ceiling"}
    why = {row["key"]: row["missing"] for row in rows if row["missing"]}
    assert why == {
        "unet": "its batch cannot be spread",
        "efficient_vmamba": "not trained yet",
        "zigma": "its training was stopped (step 2)",
        "vim": "its training failed (step 4): the loss is nan at step 3",
        "vmamba": "not trained yet",
    }
    section = table2_section(experiment, rows, results)
    assert section.missing == [f"{TITLES[key]}: {reason}" for key, reason in _in_order(rows, why)]


def _in_order(rows: list[dict], why: dict[str, str]) -> list[tuple[str, str]]:
    return [(row["key"], why[row["key"]]) for row in rows if row["key"] in why]


def test_a_row_holds_our_figures_with_their_interval_beside_the_papers(run: tuple[Experiment, Folders]) -> None:
    experiment, folders = run
    results = read_results(folders.evaluation / "test")
    section = table2_section(experiment, table2_rows(experiment, folders, results, {}), results)
    table = next(block for block in section.blocks if isinstance(block, Table))
    row = next(row for row in table.rows if row[1] == TITLES["dit"])
    assert row[:4] == ["3", "DiT", "45.00", ("4", "in 8 s")]  # 4 steps of 4 slices at 2 slices a second
    assert row[4] == ("58.00 ± 2.00", "[56.00, 60.00]")
    assert row[5] == ("-4.00 ± 2.00", "[-6.00, -2.00]")
    assert row[-2:] == [("62.22", "29.90 dB / 71.45"), ("49.05", "29.57 dB / 74.53")]
    assert table.rows[0][-2:] == ["-", "-"] and TABLE_2.keys() == TITLES.keys() - {"regression"}


def test_one_sample_alone_has_a_table_of_its_own(run: tuple[Experiment, Folders]) -> None:
    experiment, folders = run
    results = read_results(folders.evaluation / "test")
    section = table2_section(experiment, table2_rows(experiment, folders, results, {}), results)
    table = [block for block in section.blocks if isinstance(block, Table)][-1]
    shown = {row[1]: (row[2], row[3][0]) for row in table.rows}
    assert shown == {
        TITLES["regression"]: ("mean of 2 samples", "70.00 ± 2.00"),
        TITLES["diffma"]: ("one sample", "52.00 ± 2.00"),
        TITLES["dit"]: ("one sample", "48.00 ± 2.00"),
    }


def test_the_text_says_who_is_best_and_that_other_data_say_nothing_about_the_papers(
    run: tuple[Experiment, Folders], tmp_path: Path
) -> None:
    experiment, folders = run
    results = {**read_results(folders.evaluation / "test"), "cases": list("abcde")}
    rows = table2_rows(experiment, folders, results, {})
    words = _words(table2_section(experiment, rows, results).blocks)
    assert "Best by SSIM inside the mask: 2.5D regression. DiffMa is number 2 of 3." in words
    assert "tell DiffMa apart from 2.5D regression, DiT" in words
    assert "the metrics say nothing about SynthRAD2023" in words
    few = table2_section(experiment, rows, {**results, "cases": ["a", "b"]})
    assert "2 patients are too few to tell models apart" in _words(few.blocks)
    papers = replace(experiment, card=CardConfig("SynthRAD2023 Task 1, brain.", "CC BY-NC 4.0", "none"))
    assert "say nothing" not in _words(table2_section(papers, rows, results).blocks)


@pytest.fixture
def alike(tmp_path: Path) -> tuple[Experiment, Folders]:
    """Two systems that were trained alike, and their evaluation."""
    experiment, folders = make_tiny_cache(tmp_path)
    for backbone in ("diffma", "dit"):
        trained(experiment, folders, backbone)
    evaluated(experiment, folders, ("diffma", "dit"))
    return experiment, folders


def _section(experiment: Experiment, folders: Folders) -> str:
    results = read_results(folders.evaluation / "test")
    return _words(table2_section(experiment, table2_rows(experiment, folders, results, {}), results).blocks)


def _changed(folders: Folders, backbone: str, **changes: object) -> None:
    path = folders.system(backbone) / "run.json"
    account = json.loads(path.read_text())
    account["settings"] |= {key: changes.pop(key) for key in list(changes) if key in account["settings"]}
    path.write_text(json.dumps({**account, **changes}))


def test_systems_that_were_trained_alike_are_shown_with_what_they_were_trained_with(
    alike: tuple[Experiment, Folders],
) -> None:
    experiment, folders = alike
    assert "Warning" not in _section(experiment, folders)
    results = read_results(folders.evaluation / "test")
    section = table2_section(experiment, table2_rows(experiment, folders, results, {}), results)
    tables = [block for block in section.blocks if isinstance(block, Table)]
    row = next(row for row in tables[1].rows if row[0] == "DiT")
    assert tables[1].head[:3] == ["Model", "Steps", "Slices seen"] and row[1:3] == ["4", "16"]
    assert row[3] == "latent, embeddings and soft mask of the slice" and row[-1] == results["data_fingerprint"][:12]


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"step": 2}, "Training steps differ: 4 for DiffMa (ours); 2 for DiT."),
        (
            {"ct_conditioning": "pixels"},
            "Inputs differ: latent, embeddings and soft mask of the slice for DiffMa (ours); ",
        ),
        ({"data": "f" * 64}, "DiT was trained on other data (ffffffffffff) than it is judged on ("),
        ({"embedder": "0123"}, "Vision Embedders differ: abcdef123456 for DiffMa (ours); 0123 for DiT."),
        ({"prediction_type": "v_prediction"}, "Objectives differ: noise for DiffMa (ours); velocity for DiT."),
        ({"seed": 5}, "Seeds differ: 0 for DiffMa (ours); 5 for DiT."),
        ({"width": 48}, "DiT was trained with width 48, not with the configuration shown below."),
        ({"step": 8}, "The metrics of DiT are of 4 steps; it was trained again since."),
    ],
)
def test_what_was_not_trained_alike_is_said_beside_the_table(
    alike: tuple[Experiment, Folders], changes: dict[str, object], warning: str
) -> None:
    experiment, folders = alike
    _changed(folders, "dit", **changes)
    words = _section(experiment, folders)
    assert "NOT TRAINED ALIKE" in words and f"Warning: {warning}" in words


def test_the_regression_sees_pixels_and_the_report_says_so(run: tuple[Experiment, Folders]) -> None:
    words = _section(*run)
    assert "pixels of the slice and its neighbours (9 channels) for 2.5D regression" in words


def _words(blocks: object) -> str:
    return " ".join(block.text for block in blocks if isinstance(block, Text))  # type: ignore[attr-defined]
