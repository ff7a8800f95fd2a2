"""How fast prepared data feeds training: what is measured, at sizes that say nothing, and what is read from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import build_parser
from benchmarks.input import fastest_step
from DiffMaCore.cli.main import main


def test_rate_wait_and_busy_share_are_told_for_every_number_of_threads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "input.json"
    small = ["--size", "S/7", "--image-size", "56", "--batch", "4", "--slices", "16", "--rounds", "2"]
    command = ["input", *small, "--workers", "0", "1", "--steps-ms", "1", "3", "--json", str(file)]
    assert main(command, build_parser()) == 0
    figures = json.loads(file.read_text())
    assert [row["workers"] for row in figures["results"]] == [0, 1]
    # float16: two latents of 4 x 7 x 7, an embedding of 512; and the row's number
    assert figures["bytes_per_slice"] == 2 * (2 * 196 + 512) + 8
    for row in figures["results"]:
        assert 0 < row["rate"]["min"] <= row["rate"]["median"] <= row["rate"]["max"]
        assert [one["needed"] for one in row["busy"]] == pytest.approx([4000, 4 / 0.003])
        assert all(0 < one["measured"]["min"] <= one["measured"]["max"] <= 1 for one in row["busy"])
        assert 0 < row["busy"][0]["reckoned"] <= row["busy"][1]["reckoned"] <= 1
    table = capsys.readouterr().out
    assert "90% busy from" in table and figures["machine"]["processor"] in table


def test_the_fastest_step_is_just_busy_enough() -> None:
    for period, handover in ((0.010, 0.010), (0.010, 0.0001), (0.5, 0.02)):
        step = fastest_step(period, handover)
        assert step / max(step + handover, period) == pytest.approx(0.9)
    assert fastest_step(0.01, 0.01) == pytest.approx(0.09)  # nothing is read ahead: nine steps' worth of reading


def test_numbers_that_cannot_be_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["input", "--workers", "-1"], build_parser()) == 2
    assert "0 or more workers" in capsys.readouterr().err
    assert main(["input", "--size", "B/3"], build_parser()) == 2
    assert "did you mean" in capsys.readouterr().err
