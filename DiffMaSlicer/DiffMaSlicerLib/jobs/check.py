"""What the child says about a CT before it is converted: is it one, in HU, and of the part the model knows?"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from slicer.i18n import tr as _

from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.jobs.child_job import ChildJob
from DiffMaSlicerLib.mrml.volume_files import VolumeFiles


class CheckJob(ChildJob):
    """Checks one CT node; the result is a dict with size, spacing_mm, hu_range, body_mm, looks_like_ct, problem,
    notes and anatomy_notes. The file it writes is kept for the conversion that follows.
    """

    def __init__(self, interpreter: Interpreter, files: VolumeFiles, ct: Any, model: str = "demo") -> None:
        super().__init__(_("Check the CT"), interpreter)
        self.ct, self.model = ct, model
        self._files = files

    def node_removed(self, node: Any) -> None:
        """A node is about to leave the scene: without the CT there is nothing to check."""
        if node is self.ct:
            self.cancel()

    def work(self) -> Generator[object, None, Any]:
        self.stage = _("reading the CT")
        path = yield from self._files.acquire(self.ct)
        try:
            # 1: the answer is no
            return (yield from self.child(["check", str(path), "--model", self.model], statuses=(0, 1)))
        finally:
            self._files.release(path)
