"""The module without its window: everything it does, callable from scripts."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.child.packages import requirements_file
from DiffMaSlicerLib.jobs import models
from DiffMaSlicerLib.jobs.batch import BatchConversion, BatchItem
from DiffMaSlicerLib.jobs.check import CheckJob
from DiffMaSlicerLib.jobs.compare import CompareJob
from DiffMaSlicerLib.jobs.conversion import Conversion, Region, SamplingOptions, sampling_options
from DiffMaSlicerLib.jobs.dicom_export import DicomExport
from DiffMaSlicerLib.jobs.history import Estimate, History
from DiffMaSlicerLib.jobs.job import Job, JobError, JobRunner, JobState, Listener
from DiffMaSlicerLib.jobs.machine import CommandJob, MachineJob, device_key, device_name, free_bytes
from DiffMaSlicerLib.jobs.modes import choose_mode, tells_uncertainty
from DiffMaSlicerLib.jobs.packages import CheckPackages, InstallPackages
from DiffMaSlicerLib.jobs.phantom import PhantomJob
from DiffMaSlicerLib.jobs.rough import rough
from DiffMaSlicerLib.mrml import facts
from DiffMaSlicerLib.mrml.volume_files import VolumeFiles
from DiffMaSlicerLib.parameters import DiffMaParameterNode
from DiffMaSlicerLib.settings import Settings

_LIBRARY = Path(__file__).resolve().parent


class DiffMaSlicerLogic(ScriptedLoadableModuleLogic):
    """CT to synthetic MR, research only.

    Every piece of work is a ``Job`` in a child process. Calls with ``blocking=True`` wait for it (no window and no
    Qt needed) and raise RuntimeError with cause and remedy; otherwise the job is returned at once and goes on while
    the event loop runs.

    From a script, also in ``Slicer --no-main-window --python-script``::

        from DiffMaSlicer import DiffMaSlicerLogic
        mr = DiffMaSlicerLogic().convert(slicer.util.getNode("CT"), model="demo")
    """

    def __init__(self, settings: Settings | None = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.settings = settings or Settings()
        self.runner = JobRunner()
        self.machineFacts: dict[str, Any] | None = None
        self._files = VolumeFiles(lambda: self._interpreter().private_folder())
        self._history = History(self.settings.data_folder() / "DiffMaSlicer_runs.json")
        self._observers: list[tuple[Any, int]] = []
        self._observe_scene()

    # parameters

    def getParameterNode(self) -> DiffMaParameterNode:
        """The panel's state, of this scene."""
        return DiffMaParameterNode(super().getParameterNode())  # type: ignore[call-arg]

    # what a CT is

    def describe(self, ctNode: Any) -> facts.VolumeFacts:
        """What ``ctNode`` is at first sight: at once and cheap, from a sample of its voxels."""
        return facts.describe(ctNode)

    def check(self, ctNode: Any, model: str = "demo", listener: Listener | None = None) -> CheckJob:
        """Ask the child whether ``ctNode`` is a CT in HU of the part of the body that ``model`` knows."""
        return self._start(CheckJob(self._interpreter(), self._files, ctNode, model), listener)

    # conversion

    def samplingOf(self, parameterNode: DiffMaParameterNode) -> SamplingOptions:
        """What the panel says of model and sampling; its fields are keywords of ``convert`` and ``convertBatch``."""
        p = parameterNode
        mode, decoder = self.chooseMode(p.model, p.mode), None if p.decoder == "full" else p.decoder
        return SamplingOptions(
            model=p.model,
            mode=mode,
            steps=p.steps,
            scheduler=p.scheduler,
            seed=p.seed,
            samples=p.samples,
            device=p.device,
            decoder=decoder,
            uncertainty=tells_uncertainty(self.machineFacts, p.model, mode, decoder),
        )

    def convert(
        self,
        ctNode: Any,
        mrNode: Any = None,
        *,
        roi: Any = None,
        mask: Any = None,
        slices: tuple[int, int] | None = None,
        softMask: bool = False,
        keepPartial: bool = False,
        startSlice: int | None = None,
        blocking: bool = True,
        listener: Listener | None = None,
        **sampling: Any,
    ) -> Any:
        """Convert a CT to a synthetic MR in the same geometry.

        Args:
            ctNode: scalar volume in HU, any orientation, under no transform or a linear one.
            mrNode: node for the result; None makes one. It stays as it is until the first slice is finished.
            roi: vtkMRMLMarkupsROINode of any orientation; outside of it is background.
            mask: vtkMRMLSegmentationNode; outside of its visible segments is background.
            slices: first and last slice, both included, along the CT's superior-inferior axis; last -1 is the end.
            softMask: also make a volume of the Vision Embedder's soft mask.
            keepPartial: keep what is finished if the run is cancelled or fails.
            startSlice: the slice to begin with; None is the middle.
            blocking: wait for the result.
            listener: ``f(job, what)``, see ``Job.add_listener``.
            sampling: fields of ``SamplingOptions``: model, mode, steps, scheduler, seed, samples, device, decoder,
                uncertainty.

        Returns:
            The MR node if ``blocking``; else the ``Conversion`` job with outputNode, uncertaintyNode, softMaskNode.

        Raises:
            RuntimeError: with cause and remedy, if ``blocking``.
            TypeError: an argument's name is wrong, with the nearest one.
        """
        options = sampling_options(self.convert, sampling)
        region = Region(roi, mask, slices)
        interpreter, history = self._interpreter(), self._history
        job = Conversion(interpreter, self._files, history, ctNode, mrNode, options, region, softMask, startSlice)
        job.keep_partial = keepPartial
        if not blocking:
            return self._start(job, listener)
        self._run(job, listener)
        return job.outputNode

    def convertFromParameters(
        self, parameterNode: DiffMaParameterNode, startSlice: int | None = None, listener: Listener | None = None
    ) -> Conversion:
        """Convert as the panel says; not blocking, and ``parameterNode`` is only read."""
        p = parameterNode
        return self.convert(
            p.inputVolume,
            p.outputVolume,
            **vars(self.samplingOf(p)),
            roi=p.roi,
            mask=p.maskSegmentation,
            slices=(p.firstSlice, p.lastSlice) if p.limitSlices else None,
            softMask=p.makeSoftMask,
            keepPartial=p.keepPartial,
            startSlice=startSlice,
            blocking=False,
            listener=listener,
        )

    def convertBatch(
        self,
        inputs: Any,
        outputFolder: str,
        *,
        format: str = "nii.gz",
        load: bool = False,
        blocking: bool = True,
        listener: Listener | None = None,
        **sampling: Any,
    ) -> list[BatchItem] | BatchConversion:
        """Convert several CTs with the model loaded once.

        Args:
            inputs: volume nodes, or paths of files and DICOM folders, or one path of a folder of volumes.
            outputFolder: where the results go; made if need be.
            format: "nii.gz", "nrrd", "mha" or "dicom".
            load: load the results into the scene.
            sampling: as of ``convert``.

        Returns:
            One ``BatchItem`` a volume if ``blocking`` (a volume that failed says so), else the job.
        """
        entries = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
        options = sampling_options(self.convertBatch, sampling)
        job = BatchConversion(self._interpreter(), self._files, entries, str(outputFolder), format, options, load)
        return self._finish(job, blocking, listener)

    def estimate(
        self, model: str = "demo", device: str = "auto", *, slices: int = 1, voxels: int = 0, **sampling: Any
    ) -> Estimate:
        """Time and memory that a run will take: learnt from runs of ``model`` on ``device``, else rough."""
        options = sampling_options(self.estimate, {**sampling, "model": model, "device": device})
        name = device_key(device_name(self.machineFacts, device))
        free = free_bytes(self.machineFacts, name if name == "cpu" or self.machineFacts else "cpu")
        return self._history.estimate(
            model,
            name,
            options.decoder,
            mode=self.chooseMode(model, options.mode),
            steps=options.steps,
            samples=options.samples,
            slices=slices,
            voxels=voxels,
            free_bytes=free,
            rough=rough(self.machineFacts, model, name),
        )

    def chooseMode(self, model: str, wish: str | None = None) -> str | None:
        """The wished mode where ``model`` was trained for it, else its own choice; see ``choose_mode``."""
        return choose_mode(self.machineFacts, model, wish)

    # what is done with a result

    def compare(
        self, mrNode: Any, trueNode: Any, ctNode: Any = None, blocking: bool = True, listener: Listener | None = None
    ) -> dict[str, Any] | CompareJob:
        """SSIM, PSNR, MAE and MSE of ``mrNode`` against the patient's true MR inside the body, and a difference map."""
        return self._finish(CompareJob(self._interpreter(), self._files, mrNode, trueNode, ctNode), blocking, listener)

    def exportDicom(
        self, mrNode: Any, folder: str, blocking: bool = True, listener: Listener | None = None
    ) -> dict[str, Any] | DicomExport:
        """Write ``mrNode`` as a derived DICOM series that says that it is synthetic, into a new or empty folder."""
        return self._finish(DicomExport(self._interpreter(), self._files, mrNode, str(folder)), blocking, listener)

    def makePhantom(self, seed: int = 1, blocking: bool = True, listener: Listener | None = None) -> Any:
        """A rendered head: (CT node, its true MR node), or the job whose result they are."""
        return self._finish(PhantomJob(self._interpreter(), seed), blocking, listener)

    # machine and models

    def machine(self, listener: Listener | None = None) -> MachineJob:
        """Ask for devices, models, catalogue, schedulers and packages; remembered in ``machineFacts``."""
        job = MachineJob(self._interpreter())
        myself = weakref.ref(self)

        def remember(asked: Job, what: str) -> None:
            logic = myself()
            if logic is not None and what == "done" and asked.state is JobState.DONE:
                logic.machineFacts = asked.result

        job.add_listener(remember)
        return self._start(job, listener)

    def importBundle(self, path: str, name: str = "", listener: Listener | None = None) -> CommandJob:
        """Install a bundle from a folder or zip."""
        return self._start(models.import_bundle(self._interpreter(), path, name), listener)

    def importReleased(
        self,
        denoiser: str,
        embedder: str = "",
        anatomy: str = "brain",
        name: str = "",
        *,
        vae: str = "",
        imageEncoder: str = "",
        listener: Listener | None = None,
    ) -> CommandJob:
        """Turn the paper authors' ``.pt`` files into an installed bundle."""
        job = models.import_released(
            self._interpreter(),
            denoiser,
            name or anatomy,
            embedder=embedder,
            anatomy=anatomy,
            vae=vae,
            image_encoder=imageEncoder,
        )
        return self._start(job, listener)

    def downloadModel(self, hubId: str, name: str = "", listener: Listener | None = None) -> CommandJob:
        """Install a bundle from a hub."""
        return self._start(models.download(self._interpreter(), hubId, name), listener)

    def moveModels(self, folder: str, listener: Listener | None = None) -> models.MoveModels:
        """Move all models into ``folder``, which is remembered on this machine."""
        return self._start(models.MoveModels(self._interpreter(), folder, self.settings), listener)

    def modelCard(self, name: str, listener: Listener | None = None) -> models.ModelCardJob:
        """Read a model's card; the job's result is its text, Markdown."""
        return self._start(models.ModelCardJob(self._interpreter(), name), listener)

    def checkPackages(self, listener: Listener | None = None) -> CheckPackages:
        """Ask which packages the interpreter lacks; the result also says what a download takes ("size")."""
        return self._start(CheckPackages(self._interpreter(), requirements_file(_LIBRARY)), listener)

    def installPackages(self, listener: Listener | None = None) -> InstallPackages:
        """Install what is missing into the interpreter; ask the user before."""
        return self._start(InstallPackages(self._interpreter(), requirements_file(_LIBRARY)), listener)

    # ends

    def cancelAll(self) -> None:
        """Ask every job to end; they wind down while the event loop runs."""
        self.runner.cancel_all()

    def cleanup(self) -> None:
        """End everything now and remove all temporary files: the module is reloaded or Slicer quits."""
        self.runner.close()
        self._files.clear()
        for subject, tag in self._observers:
            subject.RemoveObserver(tag)
        self._observers = []

    def _interpreter(self) -> Interpreter:
        try:
            return self.settings.make_interpreter()
        except FileNotFoundError as error:
            raise RuntimeError(str(error)) from None

    def _start(self, job: Any, listener: Callable[[Job, str], None] | None) -> Any:
        if listener is not None:
            job.add_listener(listener)
        self.runner.start(job)
        return job

    def _run(self, job: Any, listener: Listener | None = None) -> Any:
        if listener is not None:
            job.add_listener(listener)
        try:
            self.runner.wait(job)
        finally:
            job.abort()
        if job.state is JobState.FAILED:
            raise job.error
        if job.state is JobState.CANCELLED:
            raise JobError(_("the run was cancelled"), "Cancelled")
        return job.result

    def _finish(self, job: Any, blocking: bool, listener: Listener | None) -> Any:
        return self._run(job, listener) if blocking else self._start(job, listener)

    def _observe_scene(self) -> None:
        """Jobs end with the scene or the nodes they need; this object is not kept alive by the scene."""
        myself = weakref.ref(self)

        def closing(caller: Any, event: str) -> None:
            logic = myself()
            if logic is not None:
                logic._scene_closes()

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def leaving(caller: Any, event: str, node: Any) -> None:
            logic = myself()
            if logic is not None and node is not None:
                logic._node_leaves(node)

        scene = slicer.mrmlScene
        for event, callback in (
            (scene.StartCloseEvent, closing),
            (scene.NodeAboutToBeRemovedEvent, leaving),
        ):
            self._observers.append((scene, scene.AddObserver(event, callback)))

    def _scene_closes(self) -> None:
        for job in list(self.runner.jobs):
            if hasattr(job, "node_removed"):
                job.abort()
        self._files.clear()

    def _node_leaves(self, node: Any) -> None:
        for job in list(self.runner.jobs):
            if hasattr(job, "node_removed"):
                job.node_removed(node)
        with contextlib.suppress(AttributeError):
            self._files.forget(node.GetID())
