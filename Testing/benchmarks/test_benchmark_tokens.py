"""Time and memory against tokens: what is measured, at sizes that say nothing, and what is read from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.__main__ import build_parser
from benchmarks.tokens import crossover, exponent, image_side
from DiffMaCore.cli.main import main
from DiffMaCore.errors import InputError


@pytest.mark.slow
def test_time_and_memory_are_measured_at_every_size_and_written_as_figures_table_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, picture = tmp_path / "tokens.json", tmp_path / "tokens.png"
    small = ("--size", "S/7", "--tokens", "16", "1", "--rounds", "2", "--at-once", "16")
    assert main(["tokens", *small, "--json", str(file), "--plot", str(picture)], build_parser()) == 0
    figures = json.loads(file.read_text())
    assert [(p["tokens"], p["image_size"], p["batch"]) for p in figures["points"]] == [(1, 56, 16), (16, 224, 1)]
    for point in figures["points"]:
        for row in (point["diffma"], point["dit"], point["ratio"]):
            assert 0 < row["min"] <= row["median"] <= row["max"]
        assert point["dit"]["peak_bytes"] > 100e6 and point["dit"]["step_bytes"] >= 0
    assert [fit["tokens"] for fit in figures["exponents"]["diffma"]] == [[1, 16]]
    table = capsys.readouterr().out
    assert (
        "growth exponent of diffma, 1 to 16 tokens" in table and f"crossover: {figures['crossover']['words']}" in table
    )
    with Image.open(picture) as opened:
        assert opened.width > 1000


def test_the_exponent_is_the_slope_between_logarithms() -> None:
    assert exponent([10, 100, 1000], [0.3, 3, 30]) == pytest.approx(1)
    assert exponent([10, 100, 1000], [5, 500, 50000]) == pytest.approx(2)


def test_the_crossover_lies_between_the_sizes_where_the_ratio_falls_through_one() -> None:
    assert crossover([100, 10000], [2, 0.5])["tokens"] == 1000
    assert crossover([10, 100, 10000], [0.9, 2, 0.5])["tokens"] == 1000  # for good, not for the first time
    assert crossover([100, 1000], [2, 1.1]) == {
        "tokens": None,
        "words": "none in range: DiT is the faster one at 1000 tokens still",
    }
    assert crossover([100, 1000], [0.9, 0.1])["words"] == "none in range: DiffMa is the faster one from 100 tokens on"


def test_tokens_that_make_no_square_slice_are_refused_with_those_that_do() -> None:
    assert image_side(12544, "B/2") == 1792
    with pytest.raises(InputError, match="200 tokens are no square grid; give square numbers such as 196 or 225"):
        image_side(200, "B/2")
