"""The stage of the panel's tests: the real module in the stand-in's window, a small head CT, a model that is quick."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODULE = Path(__file__).resolve().parents[2] / "DiffMaSlicer" / "DiffMaSlicer.py"
SHAPE, SPACING = (20, 44, 40), (5.0, 5.0, 8.0)


@pytest.fixture
def models(tiny_bundle, warm, tmp_path, monkeypatch) -> Path:
    """A user's folder of models with one in it, called tiny."""
    home = tmp_path / "diffma"
    shutil.copytree(tiny_bundle, home / "models" / "tiny")
    monkeypatch.setenv("DIFFMA_HOME", str(home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    return home


@pytest.fixture
def panel(slicer_host, models):
    """The module, opened while a CT is loaded, with the tiny model chosen."""
    made = Panel(slicer_host)
    made.load_ct()
    made.open()
    made.parameters.model = "tiny"
    made.parameters.steps = 2
    return made


class Panel:
    """The module's widget, and what a user does with it."""

    def __init__(self, host) -> None:
        self.host = host
        self.widget: Any = None

    @property
    def ui(self):
        return self.widget.ui

    @property
    def parameters(self):
        return self.widget.parameters

    @property
    def volumes(self) -> list[str]:
        """Names of the scalar volumes in the scene."""
        import slicer

        return sorted(node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))

    def open(self):
        """Open the module."""
        self.widget = self.host.load_module(MODULE)
        return self.widget

    def load_ct(self, name: str = "Head CT", seed: int = 0, shape: tuple[int, int, int] = SHAPE):
        """Put an ellipse of brain in a ring of bone, in air, into the scene."""
        _, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
        radius = np.hypot(x / 0.75, y / 0.85)
        array = np.full(shape, -1000, np.float32)
        array[radius < 1], array[radius < 0.85], array[radius < 0.25] = 900, 35, 8
        array += np.random.default_rng(seed).normal(0, 5, shape).astype(np.float32)
        return self.load(array.astype(np.int16), name)

    def load(self, array: np.ndarray, name: str):
        """Put a volume into the scene."""
        import slicer

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        slicer.util.updateVolumeFromArray(node, array)
        node.SetSpacing(*SPACING)
        node.CreateDefaultDisplayNodes()
        return node

    def know_machine(self) -> dict:
        """Wait until the child told of devices and models."""
        return self.host.wait_until(lambda: self.widget.machine, what="the machine's facts")

    def apply(self) -> None:
        """Click Apply (or Cancel)."""
        self.host.click(self.ui.applyButton)

    def finish(self) -> str:
        """Wait until no run is on; what the panel then says."""
        self.host.wait_until(lambda: not self.widget.running, what="the end of the run")
        return self.ui.messageText.text if self.ui.messageFrame.isVisible() else ""

    def first_slice(self):
        """Wait for the first slice; the synthetic volume."""
        return self.host.wait_until(lambda: self.parameters.outputVolume, what="the first slice")

    def pid(self) -> int:
        """The child's process of the conversion that runs."""
        job = self.widget.run._view.job
        return self.host.wait_until(lambda: job.process and job.process.pid, what="the child process")

    def choose(self, button, text: str) -> None:
        """Choose in a button's menu the entry that begins with a text."""
        (action,) = [action for action in button.menu().actions() if action.text.startswith(text)]
        action.trigger()
        self.host.process_events()

    def pick(self, combo, value: str) -> None:
        """Choose in a combo box as a user does, by the value behind an item."""
        index = [combo.itemData(row) for row in range(combo.count)].index(value)
        combo.currentIndex = index
        combo.qt_object().activated.emit(index)
        self.host.process_events()


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
