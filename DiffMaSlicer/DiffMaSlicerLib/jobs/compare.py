"""A synthetic MR against the patient's true MR: numbers inside the body, and a map of the differences."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.jobs.child_job import ChildJob
from DiffMaSlicerLib.jobs.job import JobError
from DiffMaSlicerLib.jobs.output_volume import import_volume
from DiffMaSlicerLib.mrml import nodes, provenance
from DiffMaSlicerLib.mrml.geometry import to_world
from DiffMaSlicerLib.mrml.volume_files import VolumeFiles


class CompareJob(ChildJob):
    """Compares two MR nodes; the result is a dict with ssim, psnr_db, mae, mse, body_voxels, normalisation ...

    Attributes:
        differenceNode: synthetic minus true, both normalised (-1 to 1), on the synthetic's grid.
    """

    def __init__(self, interpreter: Interpreter, files: VolumeFiles, mr: Any, true: Any, ct: Any = None) -> None:
        super().__init__(_("Compare with the true MR"), interpreter)
        self.mr, self.true, self.ct = mr, true, ct
        self.differenceNode: Any = None
        self._files = files

    def node_removed(self, node: Any) -> None:
        """A node is about to leave the scene: without one of the two there is nothing to compare."""
        if node in (self.mr, self.true, self.ct):
            self.cancel()

    def work(self) -> Generator[object, None, Any]:
        if self.mr is self.true:
            cause = _("the true MR is the synthetic one itself")
            raise JobError(cause, "InputError", _("Choose the patient's own MR."))
        leases = []
        try:
            self.stage = _("reading the volumes")
            place = to_world(self.mr)
            for node in filter(None, (self.mr, self.true, self.ct)):
                # each file holds a node's own geometry, so all must stand under one and the same transform
                if abs(to_world(node) - place).max() > 1e-6:
                    cause = _("the volumes stand under different transforms")
                    raise JobError(cause, "InputError", _("Harden them first (Data module, right click)."))
                leases.append((yield from self._files.acquire(node)))
            difference = self.folder / "difference.nii"
            arguments = ["compare", str(leases[0]), str(leases[1]), "--difference", str(difference)]
            if self.ct is not None:
                arguments += ["--ct", str(leases[2])]
            metrics = yield from self.child(arguments)
            if difference.is_file():
                known = self.mr.GetNodeReference(provenance.DIFFERENCE_ROLE)
                name = _("{name} difference").format(name=self.mr.GetName())
                node = yield from import_volume(difference, name, self.mr, known, (-1.0, 1.0))
                facts = provenance.as_metadata(self.mr)
                provenance.write_provenance(node, facts, ct=self.ct, content="difference")
                node.SetNodeReferenceID(provenance.TRUE_ROLE, self.true.GetID())
                self.mr.SetNodeReferenceID(provenance.DIFFERENCE_ROLE, node.GetID())
                self.differenceNode = node
            return metrics
        finally:
            for path in leases:
                self._files.release(path)


def is_synthetic(node: Any) -> bool:
    """Whether a node was made by us."""
    return nodes.in_scene(node) and node.GetAttribute(f"{provenance.PREFIX}synthetic") == "1"


def source_ct(node: Any) -> Any:
    """The CT that a synthetic MR was made from, if it is still in the scene."""
    identity = node.GetNodeReferenceID(provenance.CT_ROLE)
    return slicer.mrmlScene.GetNodeByID(identity) if identity else None
