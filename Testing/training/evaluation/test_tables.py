"""What a cell of the Markdown tables says."""

from __future__ import annotations

from DiffMaCore.training.evaluation.tables import cell, rows_of


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def test_a_cell_holds_mean_deviation_and_interval() -> None:
    figures = {"mean": 0.5, "sd": 0.02, "ci95": (0.48, 0.52), "n": 4}
    assert cell(figures, percent) == "50.0 ± 2.0 [48.0, 52.0]"


def test_a_difference_shows_its_sign_but_a_deviation_has_none() -> None:
    figures = {"mean": 0.01, "sd": 0.02, "ci95": (-0.01, 0.03), "n": 4}
    assert cell(figures, percent, signed=True) == "+1.0 ± 2.0 [-1.0, +3.0]"


def test_what_does_not_exist_is_left_out() -> None:
    assert cell({"mean": 0.5, "sd": None, "ci95": None, "n": 1}, percent) == "50.0"
    assert cell({"mean": None, "sd": None, "ci95": None, "n": 0}, percent) == "-"


def test_a_title_with_a_bar_does_not_split_its_cell() -> None:
    assert rows_of(["a"], [["x | y"]]).splitlines()[-1] == "| x \\| y |"
