"""The comparisons of `diffma benchmark`, on problems too small to say anything about speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from DiffMaCore.cli.main import build_parser
from DiffMaCore.errors import InputError, OutputError
from DiffMaCore.inference.benchmark import benchmark_scan, benchmark_spiral, take_turns
from DiffMaCore.progress import Reporter


def _command(*words: str) -> int:
    args = build_parser().parse_args(["benchmark", *words])
    args.reporter = Reporter()
    return args.run(args)


def _run(*arguments: str) -> int:
    return _command("scan", "--batch", "1", "--channels", "16", "--tokens", "4", "--states", "2", *arguments)


def test_contestants_take_turns_at_going_first() -> None:
    order: list[str] = []
    seconds = take_turns({name: lambda name=name: order.append(name) for name in "abc"}, rounds=2)  # type: ignore[misc]
    assert "".join(order) == "abc" + "bca" + "cab"
    assert [len(times) for times in seconds.values()] == [2, 2, 2]


def test_every_back_end_that_runs_is_compared_and_every_other_one_explained() -> None:
    figures = benchmark_scan(1, 16, 4, 2, rounds=2)
    found = {(row["discipline"], row["method"]) for row in figures["results"]}
    names = ("reference", "numba", "torch")
    assert found == {(discipline, name) for discipline in ("forward", "forward+backward") for name in names}
    assert figures["unavailable"].keys() == {"mamba-ssm", "triton"}
    assert all(row["relative_error"] < 1e-5 and row["min_s"] <= row["median_s"] for row in figures["results"])


def test_the_table_names_the_machine_and_the_file_holds_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scan.json"
    assert _run("--rounds", "1", "--json", str(file)) == 0
    figures = json.loads(file.read_text())
    assert figures["shape"] == {"batch": 1, "channels": 16, "tokens": 4, "states": 2, "dtype": "float32"}
    table = capsys.readouterr().out
    assert figures["machine"]["processor"] in table
    assert f"{figures['machine']['threads']} threads" in table


def test_impossible_sizes_and_places_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1"):
        _run("--rounds", "0")
    with pytest.raises(InputError, match="threads"):
        _run("--threads", "0")
    with pytest.raises(OutputError, match="does not exist"):
        _run("--json", str(tmp_path / "nowhere" / "scan.json"))


def test_a_step_is_compared_with_dits_at_about_equal_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, file = ("step", "--size", "S/7", "--image-size", "56", "--rounds", "1"), tmp_path / "step.json"
    assert _command(*small, "--batch", "1", "--json", str(file)) == 0
    figures, table = json.loads(file.read_text()), capsys.readouterr().out
    assert "times as long" in table and all(f"\n{row['method']} " in table for row in figures["results"])
    with pytest.raises(InputError, match="at least one slice"):
        _command(*small, "--batch", "0")
    assert [row["method"] for row in figures["results"]] == ["dit", "diffma, numba", "diffma, torch"]
    assert all(row["ratio_min"] <= row["ratio"] <= row["ratio_max"] for row in figures["results"])
    assert figures["shape"]["tokens"] == 1


def test_scans_of_bfloat16_are_judged_against_float64_on_the_same_numbers() -> None:
    figures = benchmark_scan(1, 16, 4, 2, rounds=1, dtype="bfloat16")
    assert figures["shape"]["dtype"] == "bfloat16"
    assert all(1e-4 < row["relative_error"] < 0.02 for row in figures["results"])


def test_the_scan_is_compared_with_its_gathers_too() -> None:
    for dtype, worst in (("float32", 1e-5), ("bfloat16", 0.05)):
        rows = benchmark_spiral(1, 16, 4, 2, "cpu", 1, lambda line: None, dtype)
        found = {(row["discipline"], row["method"]) for row in rows}
        assert found == {(kind, name) for kind in ("spiral", "spiral+backward") for name in ("numba", "torch")}
        assert all(row["relative_error"] < worst for row in rows)
        assert all(row["ratio"] == 1 for row in rows if row["method"] == "torch")


def test_tokens_that_make_no_spiral_are_told_and_the_plain_scan_is_measured_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run("--rounds", "1", "--tokens", "5") == 0
    assert "spiral was left out: 5 tokens of 16 channels" in capsys.readouterr().out
