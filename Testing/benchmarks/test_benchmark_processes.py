"""Conversion by several workers against one: what is measured, and what the shares of linear are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import build_parser
from benchmarks.processes import available_cores, benchmark_processes
from DiffMaCore.cli.main import main
from DiffMaCore.errors import DiffMaError, InputError


@pytest.mark.slow
@pytest.mark.skipif(len(available_cores()) < 2, reason="two processes of one core each need two cores")
def test_the_real_command_is_measured(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "processes.json"
    command = ["processes", "--volumes", "1", "--rounds", "1", "--steps", "1"]
    assert main([*command, "--model", str(tiny_bundle), "--json", str(file)], build_parser()) == 0
    figures = json.loads(file.read_text())
    (told,) = figures["results"]
    for name in ("working", "whole"):
        assert told["one"]["whole"] > told["one"]["working"] > 0
        assert figures["share"][name]["median"] == pytest.approx(told["one"][name] / told["several"][name])
    assert "2 against 1" in capsys.readouterr().out


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="at least one process"):
        benchmark_processes(volumes=0)
    with pytest.raises(InputError, match="need as many cores"):
        benchmark_processes(processes=10_000)


def test_a_conversion_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(DiffMaError, match=r"status 2.*nowhere"):
        benchmark_processes(processes=1, volumes=1, rounds=1, model=str(tmp_path / "nowhere"))
