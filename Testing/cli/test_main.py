"""The command line's frame: help, info and summary."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from DiffMaCore.cli.commands import COMMANDS
from DiffMaCore.cli.main import build_parser, main


def test_help_names_every_command_and_says_research_only() -> None:
    text = build_parser().format_help()
    assert len(COMMANDS) > 20
    for name in COMMANDS:
        assert name.split()[0] in text
    assert "Research only" in text


def test_a_misspelt_option_is_told_the_nearest_one_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    build_parser()
    wrong = [(name, "--vrebose", "--verbose") for name in COMMANDS]
    wrong += [("convert", "--stpes", "--steps"), ("train denoiser", "--bakcbone=vim", "--backbone")]
    for name, given, meant in wrong:
        with pytest.raises(SystemExit, match="2"):
            main([*name.split(), given, "3"])
        option = given.partition("=")[0]
        assert f"unrecognized arguments: {option}; did you mean {meant}?" in capsys.readouterr().err, name


def test_an_option_may_be_cut_short_and_all_after_two_dashes_is_no_option() -> None:
    args = build_parser().parse_args(["convert", "--prog=json", "--", "--stpes", "out.nii"])
    assert args.progress == "json" and [str(path) for path in args.input] == ["--stpes"]


def test_help_imports_nothing_heavy() -> None:
    code = """
import runpy, sys
sys.argv = ["diffma", "--help"]
try:
    runpy.run_module("DiffMaCore.cli.main", run_name="__main__")
except SystemExit as end:
    assert end.code == 0
heavy = {"torch", "diffusers", "accelerate", "SimpleITK", "numba", "open_clip", "numpy", "scipy", "pydicom", "PIL"}
heavy |= {"yaml", "safetensors", "huggingface_hub", "tqdm"}
print("heavy:", *sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert "convert" in result.stdout and result.stderr.strip() == "heavy:"


def test_summary_prints_all_configurations_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows) == 15
    assert rows["L/2"]["tokens"] == 196
    assert rows["L/2"]["table_parameters"] == 35.11
    assert round(rows["L/2"]["parameters_without_mamba"] / 1e6, 2) == 35.11
    assert round(rows["L/2"]["parameters"] / 1e6, 2) == 89.34


def test_summary_explains_the_table_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary"]) == 0
    text = capsys.readouterr().out
    assert "XXL/2" in text and "swapped" in text and "119.30" in text


def test_info_tells_devices_back_ends_and_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "Research only" in facts["notice"]
    devices = {device["name"]: device for device in facts["devices"]}
    cpu = devices["cpu"]
    assert cpu["available"] and cpu["free_bytes"] > 0
    assert cpu["scan_backends"]["numba"]["available"]
    assert cpu["scan_backends"]["torch"]["available"]
    assert not cpu["scan_backends"]["mamba-ssm"]["available"]
    for device in devices.values():
        assert device["available"] or device["reason"]
    assert facts["packages"]["torch"]
    assert main(["info"]) == 0
    assert "numba" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    shown = subprocess.Popen(
        [sys.executable, "-u", "-m", "DiffMaCore", "models", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert shown.stdout is not None and shown.stderr is not None
    shown.stdout.close()
    assert b"Traceback" not in shown.stderr.read()
    assert shown.wait() == 141
