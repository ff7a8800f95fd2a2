"""The test behind Slicer's "Reload and Test": the demo model through the real child process, no GPU, no network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from DiffMaSlicerLib.jobs.job import JobState
from DiffMaSlicerLib.jobs.modes import MODES
from DiffMaSlicerLib.logic import DiffMaSlicerLogic
from DiffMaSlicerLib.mrml.provenance import read_provenance
from DiffMaSlicerLib.review import layouts
from DiffMaSlicerLib.review.review import Review

_STEPS = 4
_SLICES = (30, 32)  # three slices through the ventricles
_GONE = 2.0  # seconds from Cancel to the end of the child's tree
_PATIENCE = 120.0


class DiffMaSlicerTest(ScriptedLoadableModuleTest):
    """Converts, reviews, compares and cancels as a user would; takes about a minute on two cores."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        self.logic = DiffMaSlicerLogic()
        self.review = Review()
        self._settle(self.logic.checkPackages(), "packages")

    def tearDown(self) -> None:
        self.review.close()
        self.logic.cleanup()
        slicer.mrmlScene.Clear()

    def test_convert_review_and_compare(self) -> None:
        """A phantom becomes a synthetic MRI in the same geometry, with provenance, shown beside its CT."""
        ct, true = self.logic.makePhantom()
        shown: list[int] = []
        self.delayDisplay("The demo model converts three slices of a head phantom")
        mr = self.logic.convert(
            ct,
            steps=_STEPS,  # used where the model samples by itself
            slices=_SLICES,
            softMask=True,
            listener=lambda job, what: shown.append(1) if what == "slice" else None,
        )
        self.assertTrue(shown, "no slice was shown before the end")
        self._checkGeometry(ct, mr)
        self._checkVoxels(mr, true)
        facts = read_provenance(mr)
        self.assertEqual([facts.get(name) for name in ("synthetic", "model")], ["1", "demo"])
        self.assertIn(facts.get("mode"), MODES)
        self.assertEqual(len(facts.get("modelChecksum", "")), 64)
        self.assertIn("research only", facts["notice"].lower())
        self.assertIs(mr.GetNodeReference("DiffMa.ct"), ct)
        self._checkReview(ct, mr)
        self.delayDisplay("The synthetic MRI is compared with the phantom's own")
        metrics: Any = self.logic.compare(mr, true, ct)
        self.assertGreater(metrics["body_voxels"], 0)
        self.assertTrue(0 < metrics["ssim"] < 1, f"SSIM is {metrics['ssim']}")

    def test_a_sample_says_how_it_was_drawn(self) -> None:
        """The mode Sampled makes an image, too, and its node says by which steps and seed."""
        ct, _true = self.logic.makePhantom()
        self.delayDisplay("The demo model draws a sample of one slice")
        mr = self.logic.convert(ct, mode="sample", steps=_STEPS, seed=2, slices=(_SLICES[0], _SLICES[0]))
        facts = read_provenance(mr)
        self.assertEqual([facts.get(name) for name in ("mode", "steps", "seed")], ["sample", str(_STEPS), "2"])
        self.assertGreater(float(slicer.util.arrayFromVolume(mr)[_SLICES[0]].std()), 0.0)

    def test_cancel_leaves_nothing(self) -> None:
        """A run that is cancelled ends its child in time and leaves no node and no file."""
        ct, _true = self.logic.makePhantom()
        before = self._nodeIDs()
        self.delayDisplay("A long run is cancelled")
        job = self.logic.convert(ct, mode="sample", steps=200, blocking=False)
        self._waitFor(lambda: job.finished or job.stage not in ("", "reading the CT"), "the child's first word")
        self.assertIs(job.state, JobState.RUNNING, job.error)
        folder, process = Path(job.folder), job.process
        began = time.monotonic()
        job.cancel()
        self._waitFor(lambda: job.finished, "the cancelled run")
        self.assertLess(time.monotonic() - began, _GONE)
        self.assertIs(job.state, JobState.CANCELLED)
        self.assertFalse(process.tree_running, "the child outlives Cancel")
        self.assertFalse(folder.exists(), "temporary files outlive Cancel")
        self.assertEqual(self._nodeIDs(), before)

    def _checkGeometry(self, ct: Any, mr: Any) -> None:
        self.assertEqual(mr.GetImageData().GetDimensions(), ct.GetImageData().GetDimensions())
        self.assertEqual(_ijkToRAS(mr), _ijkToRAS(ct))

    def _checkVoxels(self, mr: Any, true: Any) -> None:
        """The three slices hold an image that resembles the phantom's own MRI, the others nothing."""
        first, last = _SLICES
        made, wanted = slicer.util.arrayFromVolume(mr), slicer.util.arrayFromVolume(true)
        inside = made[first : last + 1]
        self.assertTrue(np.isfinite(made).all())
        self.assertEqual(float(made[:first].std()), 0.0)
        self.assertEqual(float(made[last + 1 :].std()), 0.0)
        likeness = float(np.corrcoef(inside.ravel(), wanted[first : last + 1].ravel())[0, 1])
        self.assertGreater(likeness, 0.6)

    def _checkReview(self, ct: Any, mr: Any) -> None:
        """Side by side with the overlay; in a Slicer without a main window there are no views to look at."""
        self.review.show(ct, mr)
        self.review.setLayers("overlay", opacity=0.5)
        self.delayDisplay("CT and synthetic MRI, side by side")
        if slicer.app.layoutManager() is None:
            return
        arrangement = slicer.app.layoutManager().layoutLogic().GetLayoutNode().GetViewArrangement()
        shown = layouts.layout_of(arrangement)
        self.assertEqual(shown and shown.name, "side-by-side")
        self.review.close()

    def _settle(self, job: Any, what: str) -> None:
        self._waitFor(lambda: job.finished, what)
        self.assertIs(job.state, JobState.DONE, f"{what}: {job.error}")
        if job.result.get("missing"):
            self.fail(
                f"The interpreter lacks {', '.join(job.result['missing'])}. Press Install packages in the module."
            )

    def _waitFor(self, condition: Any, what: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), end, f"waited in vain for {what}")
            slicer.app.processEvents()
            time.sleep(0.01)

    def _nodeIDs(self) -> set[str]:
        """IDs of the volumes in the scene; views and selections come and go by themselves."""
        return {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode")}


def _ijkToRAS(node: Any) -> list[list[float]]:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix).tolist()
