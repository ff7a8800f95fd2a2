"""``python -m benchmarks decode``, as small as it can be: what it tells, and what must hold whatever the times are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import build_parser
from DiffMaCore.cli.main import main


def test_both_decoders_in_both_layouts_give_the_same_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "decode.json"
    threads = torch.get_num_threads()
    words = ["decode", "--batch", "1", "--image-size", "16", "--rounds", "2", "--threads", "1"]
    assert main([*words, "--json", str(file)], build_parser()) == 0
    torch.set_num_threads(threads)
    figures = json.loads(file.read_text())
    assert figures["shape"] == {"image_size": 16, "batch": 1, "precision": "fp32"} and figures["rounds"] == 2
    assert figures["machine"]["threads"] == 1
    names = [row["method"] for row in figures["results"]]
    assert names == ["full, contiguous", "full, channels_last", "small, contiguous", "small, channels_last"]
    for row in figures["results"]:
        assert row["difference"] < 1e-4 and row["per_slice_s"] > 0
    assert figures["results"][0]["ratio"] == figures["results"][2]["to_contiguous"] == 1.0
    assert figures["parameters"]["full"] > 40 * figures["parameters"]["small"]
    out = capsys.readouterr().out
    assert all(name in out for name in names) and "random" in out


@pytest.mark.parametrize("option", [("--batch", "0"), ("--rounds", "0"), ("--image-size", "20"), ("--threads", "0")])
def test_impossible_numbers_are_refused(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", *option], build_parser()) == 2
    error = capsys.readouterr().err
    assert "at least one" in error or f"{option[1]} threads" in error
