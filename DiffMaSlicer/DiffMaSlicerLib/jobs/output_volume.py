"""The MR while it is being made: slices come in one by one, and at the end exactly what stands in the file."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from DiffMaSlicerLib.jobs.job import JobError
from DiffMaSlicerLib.mrml import nodes
from DiffMaSlicerLib.mrml.voxels import copy_into, new_image, open_result, tell_modified, voxels_of

SECONDS_BETWEEN_UPDATES = 0.4
"""Views are updated with new slices at most this often: each time they are drawn anew."""


class OutputVolume:
    """A node that fills up with slices.

    A node made by us is removed by ``undo``; one that the user chose stays as it is until ``begin`` and gets its
    former content back by ``undo``.

    Args:
        ct: the volume whose geometry, transform and study the node gets.
        chosen: the user's node, or None for a new one.
    """

    def __init__(self, ct: Any, chosen: Any = None) -> None:
        self.node: Any = None
        self.slices_done: list[int] = []
        self._ct, self._chosen = ct, chosen
        self._before: nodes.Before | None = None
        self._image: Any = None
        self._shown = 0.0
        self._waiting = False

    @property
    def begun(self) -> bool:
        """Whether the node shows something of this run."""
        return self.node is not None

    def begin(self, name: str, low: float, high: float) -> Generator[object, None, Any]:
        """Make or take the node and fill it with ``low``, the background.

        Args:
            name: of a new node.
            low, high: values shown black and white.
        """
        shape = self._ct.GetImageData().GetDimensions()[::-1]
        image = yield from new_image(shape, low)
        if self._chosen is None:
            node = nodes.make_volume(name)
        else:
            node = self._chosen
            self._before = nodes.Before(node)
        self._image, self.node = image, node
        nodes.show_as(node, image, self._ct, (low, high))

    def put(self, index: int, axis: int, path: Path) -> bool:
        """Put a finished slice, an .npy file, at ``index`` of array axis ``axis``; whether that was possible."""
        try:
            values = np.load(path, allow_pickle=False)
            plane = np.moveaxis(voxels_of(self._image), axis, 0)[index]
            if plane.shape != values.shape:
                return False
            plane[...] = values
        except (OSError, ValueError, IndexError):
            return False
        self.slices_done.append(index)
        self._waiting = True
        return True

    def refresh(self, force: bool = False) -> bool:
        """Let the views know about new slices, at most a few times a second; whether they were updated."""
        now = time.monotonic()
        if not self._waiting or not (force or now - self._shown >= SECONDS_BETWEEN_UPDATES):
            return False
        self._waiting, self._shown = False, now
        if nodes.in_scene(self.node):
            tell_modified(self.node)
        return True

    def complete(self, path: Path) -> Generator[object, None, Any]:
        """Take over the voxels of the written file.

        Raises:
            JobError: it is no result of this CT.
        """
        voxels = open_result(path).voxels
        target = voxels_of(self._image)
        if voxels.shape != target.shape:
            cause = _("the result has another size {result} than the CT {ct}")
            raise JobError(cause.format(result=voxels.shape, ct=target.shape), "OutputError")
        yield from copy_into(target, voxels)
        self._waiting = True
        self.refresh(force=True)

    def undo(self) -> None:
        """Take away what came of the run."""
        node, self.node = self.node, None
        if not nodes.in_scene(node):
            return
        if self._before is None:
            display = node.GetDisplayNode()
            node.GetScene().RemoveNode(node)
            if nodes.in_scene(display):
                display.GetScene().RemoveNode(display)
        else:
            self._before.restore(node)

    def forget(self) -> None:
        """The node was deleted by someone else."""
        self.node = self._chosen = None


def import_volume(
    path: Path, name: str, like: Any, reuse: Any = None, window: tuple[float, float] | None = None
) -> Generator[object, None, Any]:
    """A node with the voxels of a result file, on the grid of ``like``; returns it.

    Args:
        reuse: a node of ours from an earlier run, filled anew; None makes one.
        window: values shown black and white; None is 0 to the largest value.
    """
    voxels = open_result(path).voxels
    image = yield from new_image(voxels.shape, 0.0)
    yield from copy_into(voxels_of(image), voxels)
    if window is None:
        window = (0.0, (yield from _largest(voxels_of(image))) or 1.0)
    node = reuse if nodes.in_scene(reuse) else nodes.make_volume(name)
    nodes.show_as(node, image, like, window)
    return node


def _largest(array: np.ndarray) -> Generator[object, None, Any]:
    largest = 0.0
    for plane in array:
        largest = max(largest, float(plane.max()))
        yield None
    return largest
