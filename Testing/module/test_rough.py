"""What a first run will take, told before there was one."""

from __future__ import annotations

import pytest
from DiffMaSlicerLib.jobs.history import History
from DiffMaSlicerLib.jobs.rough import Rough, rough

FACTS = {
    "models": [
        {"name": "demo", "size": "custom 192x6/2, latent 40", "bytes": 10_000_000},
        {"name": "large", "size": "L/2", "bytes": 900_000_000},
        {"name": "odd", "size": "no size", "bytes": 1},
    ],
    "devices": [{"name": "cpu", "threads": 4}],
}


def test_a_larger_model_takes_longer_and_more_threads_make_it_faster():
    small, large = rough(FACTS, "demo", "cpu"), rough(FACTS, "large", "cpu")
    assert small is not None and large is not None
    assert large.of_evaluation == pytest.approx(1.7e-4 * 16 * 196 / 4)
    assert large.of_evaluation > 5 * small.of_evaluation
    assert large.memory_bytes > small.memory_bytes > 1e9
    slow = rough({**FACTS, "devices": [{"name": "cpu", "threads": 1}]}, "demo", "cpu")
    assert slow is not None and slow.of_evaluation == pytest.approx(4 * small.of_evaluation)


@pytest.mark.parametrize(
    ("facts", "model", "device"),
    [(None, "demo", "cpu"), (FACTS, "odd", "cpu"), (FACTS, "x", "cpu"), (FACTS, "demo", "cuda:0")],
)
def test_where_nobody_knows_nothing_is_guessed(facts, model, device):
    assert rough(facts, model, device) is None


def test_a_guess_says_that_it_is_one_and_gives_way_to_the_first_run(tmp_path):
    history = History(tmp_path / "runs.json")
    asked = {"mode": "sample", "steps": 10, "samples": 1, "slices": 20, "voxels": 1000, "free_bytes": 8_000_000_000}
    guess = history.estimate("demo", "cpu", **asked, rough=Rough(5.0, 0.5, 0.1, 2_000_000_000))
    assert guess.seconds == 5 + 20 * (0.5 + 10 * 0.1) and guess.runs == 0 and guess.enough_memory
    assert guess.sentence == "About 35 s and 2.0 GB of memory (8.0 GB free), a rough guess."
    history.record("demo", "cpu", setup=1, synthesis=20, work=200, voxels=1000, peak_bytes=10**9)
    assert history.estimate("demo", "cpu", **asked, rough=Rough(5.0, 0.5, 0.1, 2_000_000_000)).seconds == 21
