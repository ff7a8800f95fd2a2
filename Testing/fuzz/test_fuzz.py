"""Damaged files and wrong series end in a sentence: a few of fixed seeds here, thousands by hand (``fuzz.py``)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fuzz import Fuzzer
from judging import GOOD
from series import Spoiler
from wrong_series import KINDS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the cases run in a forked process")


@pytest.mark.timeout(900)
def test_damaged_files_end_in_a_sentence_or_in_what_was_written(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    fuzzer = Fuzzer(tmp_path, seed=20)
    try:
        outcomes = {number: fuzzer(number) for number in range(600 if pytestconfig.getoption("--slow") else 200)}
    finally:
        fuzzer.end()
    assert {n: (fuzzer.name(n), o.kind, o.said[-300:]) for n, o in outcomes.items() if o.kind not in GOOD} == {}
    assert {o.kind for o in outcomes.values()} == set(GOOD)


@pytest.mark.timeout(900)
def test_wrong_series_are_refused_or_repaired_aloud(tmp_path: Path) -> None:
    spoiler = Spoiler(tmp_path, seed=21)
    try:
        found = {number: spoiler(number) for number in range(len(KINDS))}
    finally:
        spoiler.end()
    assert {(n, Spoiler.name(n)): result for n, result in found.items() if result[0]} == {}
