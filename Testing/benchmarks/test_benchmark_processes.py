"""Conversion by several processes against one: what is measured, and what the shares of linear are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import build_parser
from benchmarks.processes import Worker, _round, available_cores, benchmark_processes
from DiffMaCore.cli.main import main
from DiffMaCore.errors import DiffMaError, InputError


def worker(working: float, last: float, volumes: int, cpu: float | None = None) -> Worker:
    """Loads until ``working``, ends a second after its last volume; a second of CPU time before the work."""
    return Worker(0, working, last, last + 1, volumes, cpu, None if cpu is None else 1.0)


def test_processes_that_work_like_the_single_one_are_linear() -> None:
    told = _round([worker(2, 12, 5, 11)], [worker(2, 12, 5, 11), worker(2, 12, 5, 11)])
    assert told["share"] == {"working": 1, "whole": 1, "cpu, working": 1, "cpu, whole": 1}
    assert told["core"] == {"one": 1, "several": 1}


def test_a_later_start_costs_the_whole_and_not_the_work() -> None:
    told = _round([worker(2, 12, 10)], [worker(2, 12, 10), worker(4, 12, 8)])
    assert told["share"]["working"] == pytest.approx(1)
    assert told["share"]["whole"] == pytest.approx(18 / 20)
    assert told["share"]["cpu, whole"] is None  # nobody told


def test_one_that_waits_for_the_others_last_volume_costs_the_work() -> None:
    told = _round([worker(0, 10, 5, 11)], [worker(0, 10, 5, 11), worker(0, 8, 5, 9)])
    assert told["share"]["working"] == pytest.approx(1)
    told = _round([worker(0, 10, 5, 11)], [worker(0, 12, 6, 13), worker(0, 8, 4, 9)])
    assert told["share"]["working"] == pytest.approx(10 / 12)
    assert told["share"]["cpu, working"] == pytest.approx(1)  # no work was lost, only time


def test_a_busy_machine_is_told_from_poor_scaling() -> None:
    told = _round([worker(0, 10, 5, 11)], [worker(0, 20, 5, 11), worker(0, 20, 5, 11)])
    assert told["share"]["working"] == 0.5 and told["share"]["cpu, working"] == 1
    assert told["core"]["several"] == 0.5


@pytest.mark.skipif(len(available_cores()) < 2, reason="two processes of one core each need two cores")
def test_the_real_command_is_measured(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "processes.json"
    command = ["processes", "--volumes", "1", "--rounds", "1", "--steps", "1"]
    assert main([*command, "--model", str(tiny_bundle), "--json", str(file)], build_parser()) == 0
    figures = json.loads(file.read_text())
    (told,) = figures["results"]
    assert told["one"]["volumes"] == [1] and sum(told["several"]["volumes"]) == 2
    for side in ("one", "several"):
        assert told[side]["whole_s"] > told[side]["working_s"] > 0
    assert figures["share"]["whole"]["median"] == pytest.approx(told["one"]["whole_s"] / told["several"]["whole_s"])
    assert "2 against 1" in capsys.readouterr().out


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="at least one process"):
        benchmark_processes(volumes=0)
    with pytest.raises(InputError, match="need as many cores"):
        benchmark_processes(processes=10_000)


def test_a_conversion_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(DiffMaError, match=r"status 2.*nowhere"):
        benchmark_processes(processes=1, volumes=1, rounds=1, model=str(tmp_path / "nowhere"))
