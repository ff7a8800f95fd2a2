"""The test behind "Reload and Test", run as Slicer runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from warm_python import WHOLE_HEADS

MODULE = Path(__file__).resolve().parents[2] / "DiffMaSlicer" / "DiffMaSlicer.py"


@pytest.mark.timeout(300)
def test_reload_and_test_passes(slicer_host: Any, warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    monkeypatch.setenv(WHOLE_HEADS, "1")  # its slices are those of a whole head
    widget = slicer_host.load_module(MODULE)
    widget.onReload()
    slicer.selfTests["DiffMaSlicer"](msec=0)


def test_self_test_asks_to_be_run_by_slicer(slicer_host: Any) -> None:
    import slicer

    slicer_host.load_module(MODULE, select=False)

    import DiffMaSlicer

    assert issubclass(DiffMaSlicer.DiffMaSlicerTest, slicer.ScriptedLoadableModule.ScriptedLoadableModuleTest)
    assert DiffMaSlicer.DiffMaSlicerTest().moduleTestNames == [
        "test_a_sample_says_how_it_was_drawn",
        "test_cancel_leaves_nothing",
        "test_convert_review_and_compare",
    ]
