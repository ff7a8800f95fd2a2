"""How training shows itself: figures beside the bar, in a cluster's log, and in the JSON lines."""

from __future__ import annotations

import io
import json

from DiffMaCore import progress
from DiffMaCore.progress import JsonReporter, TerminalReporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_the_figures_behind_the_bar():
    stream = Terminal()
    reporter = TerminalReporter(stream)
    reporter.stage("training denoiser vim", 1000, done=400)
    reporter.metrics(loss=0.12345678)
    reporter.advance()
    reporter.close()
    last = stream.getvalue().rstrip().splitlines()[-1]
    assert "training denoiser vim" in last
    assert "401/1000" in last
    assert "loss 0.1235" in last


def test_without_a_terminal_a_line_now_and_then_tells_how_it_goes_and_how_long_it_takes(monkeypatch):
    stream = io.StringIO()
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    reporter = TerminalReporter(stream)
    reporter.stage("training", 100)
    for _ in range(6):
        now += 20.0
        reporter.advance()
        reporter.metrics(loss=0.5)
    assert stream.getvalue().splitlines() == [
        "training 2/100: loss 0.5, 32:40 left",
        "training 4/100: loss 0.5, 32:00 left",
        "training 6/100: loss 0.5, 31:20 left",
    ]


def test_the_time_left_counts_only_what_was_done_since_the_run_went_on(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    reporter = progress.Reporter()
    reporter.stage("training", 1000, done=900)
    assert reporter.eta is None
    now = 20.0
    for _ in range(10):
        reporter.advance()
    assert reporter.eta == 180.0


def test_json_lines_carry_the_figures_and_where_the_run_went_on():
    stream = io.StringIO()
    reporter = JsonReporter(stream=stream)
    reporter.stage("training", 10, done=4)
    reporter.advance()
    reporter.metrics(loss=0.5, samples_per_second=12.0)
    reporter.advance()
    reporter.stage("writing")
    stage, plain, told, after = map(json.loads, stream.getvalue().splitlines())
    assert stage == {"event": "stage", "stage": "training", "total": 10, "done": 4}
    assert "figures" not in plain
    assert told["step"] == 6
    assert told["figures"] == {"loss": 0.5, "samples_per_second": 12.0}
    assert after == {"event": "stage", "stage": "writing", "total": 0}  # as a reader of older lines knows it
