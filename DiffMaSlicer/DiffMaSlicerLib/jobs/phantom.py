"""A rendered head, CT and MR, where there is no scan at hand; it is no patient's scan."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from slicer.i18n import tr as _

from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.jobs.child_job import ChildJob
from DiffMaSlicerLib.mrml import nodes
from DiffMaSlicerLib.mrml.geometry import to_matrix
from DiffMaSlicerLib.mrml.voxels import allocate, copy_into, open_result, voxels_of

_WINDOWS = {"CT": (-60.0, 140.0), "MR": (0.0, 1000.0)}


class PhantomJob(ChildJob):
    """Makes the phantom; the result is (CT node, its true MR node)."""

    def __init__(self, interpreter: Interpreter, seed: int = 1) -> None:
        super().__init__(_("Make a head phantom"), interpreter)
        self._seed = seed

    def work(self) -> Generator[object, None, Any]:
        paths = {kind: self.folder / f"{kind}.nii" for kind in _WINDOWS}
        arguments = ["phantom", str(paths["CT"]), "--mr", str(paths["MR"]), "--seed", str(self._seed)]
        yield from self.child(arguments)
        made = []
        for kind, path in paths.items():
            made.append((yield from self._load(path, kind)))
        return tuple(made)

    def _load(self, path: Any, kind: str) -> Generator[object, None, Any]:
        result = open_result(path)
        image = allocate(result.voxels.shape)
        yield from copy_into(voxels_of(image), result.voxels)
        node = nodes.make_volume(_("Head phantom {kind}").format(kind=kind))
        node.CreateDefaultDisplayNodes()
        nodes.set_window(node, _WINDOWS[kind])
        nodes.place(node, image, to_matrix(result.ijk_to_ras))
        return node
