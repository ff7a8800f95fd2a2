"""A whole conversion whose network answers with the CT itself: what is left is where everything lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from DiffMaCore import DiffMaPipeline
from DiffMaCore.imaging.inputs import InputItem
from DiffMaCore.inference import pipeline
from DiffMaCore.inference.batches import BatchRun, MadeSlices
from DiffMaCore.inference.convert import ConvertOptions, convert
from DiffMaCore.progress import Reporter
from Testing.geometry.cases import BRAIN_HU, Case, mark_errors, write_case

AIR = 1000.0
"""Added to HU, so that the result's values begin at nought as those of an MRI do."""


class Echo(BatchRun):
    """Gives every slice back as it was read."""

    def run(self, batches: list[list[int]]) -> None:
        for indices in batches:
            slices = np.asarray(self._read(indices)) + AIR
            self._finish(indices, MadeSlices(slices.clip(0), np.zeros_like(slices), np.ones_like(slices)))


def echoing(pipe: DiffMaPipeline, set_attribute: Callable[[object, str, object], None]) -> DiffMaPipeline:
    """``pipe`` on slices of 192 pixels of 1.5 mm, answering with the CT."""
    set_attribute(pipeline, "BatchRun", Echo)
    pipe.bundle = replace(pipe.bundle, image_size=192, pixel_spacing=1.5, output_range=(0.0, 4000.0))
    return pipe


def displacement(pipe: DiffMaPipeline, case: Case, folder: Path) -> float:
    """Voxels by which the mark that lies worst is off; infinite where one is not at its place or another one is."""
    source = write_case(case, folder)
    output = folder / f"mr{case.output}"
    convert(pipe, InputItem(source, "ct"), output, ConvertOptions(), Reporter())
    errors = mark_errors(case, output, BRAIN_HU + AIR)
    heights = [height for _, height in errors.values()]
    return max(error for error, _ in errors.values()) if heights == sorted(heights) else float("inf")
