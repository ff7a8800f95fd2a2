"""A CT of the scene in, a synthetic MR next to it out, slice by slice, while the window stays usable."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from DiffMaSlicerLib.child.events import Event
from DiffMaSlicerLib.child.interpreter import Interpreter
from DiffMaSlicerLib.jobs.child_job import ChildJob
from DiffMaSlicerLib.jobs.history import History
from DiffMaSlicerLib.jobs.job import JobCancelled, JobError
from DiffMaSlicerLib.jobs.modes import AUTO, SAMPLE, draws_noise, evaluations
from DiffMaSlicerLib.jobs.output_volume import OutputVolume, import_volume
from DiffMaSlicerLib.mrml import nodes, provenance
from DiffMaSlicerLib.mrml.geometry import slice_count, to_world
from DiffMaSlicerLib.mrml.regions import slices_argument, write_mask
from DiffMaSlicerLib.mrml.volume_files import VolumeFiles
from DiffMaSlicerLib.parameters import DEFAULT_STEPS

_DEFAULT_RANGE = (0.0, 1.0)


@dataclass(frozen=True)
class SamplingOptions:
    """Which model makes the image, how, and on what.

    Attributes:
        model: an installed model's name, or a bundle's folder.
        steps: of sampling, 1 to 1000.
        scheduler: of sampling, "dpm++", "unipc", "ddim" or "ddpm".
        seed: of the noise; the same seed gives the same result.
        samples: more than one also gives their standard deviation as uncertainty; in the mode "sample" the result is
            then their mean.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        decoder: "full", or "small" (faster, approximate) or "guided" (by the CT) where the model has one; None is its
            best.
        mode: "mean", the expected image and most faithful one, in one step; or "sample"; None is the model's own.
        uncertainty: of one sample, too, where the model tells it of the expected image.
    """

    model: str = "demo"
    steps: int = DEFAULT_STEPS
    scheduler: str = "dpm++"
    seed: int = 0
    samples: int = 1
    device: str = "auto"
    decoder: str | None = None
    mode: str | None = None
    uncertainty: bool = False

    def facts(self) -> dict[str, Any]:
        """What decides the image, by DiffMaCore's names; how noise is drawn only where it is."""
        facts = {name: value for name, value in vars(self).items() if value not in (None, AUTO)}
        del facts["uncertainty"]
        if not draws_noise(self.mode, self.samples):
            for name in ("steps", "scheduler", "seed"):
                del facts[name]
        return facts

    def arguments(self) -> list[str]:
        """As DiffMaCore's command line takes them."""
        words = [word for name, value in self.facts().items() for word in (f"--{name}", str(value))]
        return [*words, "--uncertainty"] if self.uncertainty else words


def sampling_options(call: Callable[..., Any], given: Mapping[str, Any]) -> SamplingOptions:
    """What was given to ``call``, a method that takes these fields and its own arguments.

    Raises:
        TypeError: a name is neither, with the nearest one.
    """
    own = [name for name in inspect.signature(call).parameters if name != "sampling"]
    names = {name.lower(): name for name in (*own, *vars(SamplingOptions()))}
    for word in given.keys() - names.values():
        near = [names[key] for key in difflib.get_close_matches(word.lower().replace("_", ""), names, cutoff=0.5)]
        near += [name for key, name in names.items() if key in word.lower().split("_")]
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names.values())}"
        raise TypeError(f"{call.__qualname__}() has no argument {word!r}; {hint}")
    return SamplingOptions(**given)


@dataclass(frozen=True)
class Region:
    """Which part of a CT is converted: nodes of the scene, and slices first to last, both included."""

    roi: Any = None
    segmentation: Any = None
    slices: tuple[int, int] | None = None


class Conversion(ChildJob):
    """Converts one CT node.

    Cancelled or failed, the MR node goes back to what it was: a node made for this run is removed, a node that the
    user chose gets its former voxels back. With ``keep_partial`` it keeps the slices that are finished and says so
    in the attribute "DiffMa.partial".

    Attributes:
        outputNode: the synthetic MR; None until its first slice is there.
        uncertaintyNode, softMaskNode: made at the end, if asked for; float, same geometry.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        files: VolumeFiles,
        history: History,
        ct: Any,
        mr: Any = None,
        options: SamplingOptions | None = None,
        region: Region | None = None,
        soft_mask: bool = False,
        start_slice: int | None = None,
    ) -> None:
        super().__init__(_("Convert the CT to a synthetic MR (research only)"), interpreter)
        self.ct = ct
        self.options = options or SamplingOptions()
        self.region = region or Region()
        self.uncertaintyNode: Any = None
        self.softMaskNode: Any = None
        self._files, self._history = files, history
        self._wants_soft_mask, self._start_slice = soft_mask, start_slice
        self._output = OutputVolume(ct, mr)
        self._mr = mr
        self._facts: dict[str, Any] = {}
        self._slices: list[int] = []
        self._slice_total = 0
        self._made: list[Any] = []

    @property
    def outputNode(self) -> Any:
        return self._output.node

    @property
    def finishedSlices(self) -> list[int]:
        """The slices that are there already, in the order in which they came."""
        return list(self._output.slices_done)

    @property
    def slices(self) -> list[int]:
        """The slices that are made, in that order; empty until the child has found the body."""
        return list(self._slices)

    def node_removed(self, node: Any) -> None:
        """A node is about to leave the scene; if this run needs it, the run ends and leaves nothing behind."""
        if node in (self.outputNode, self._mr):
            self._output.forget()
        elif node is not self.ct and node not in (self.region.roi, self.region.segmentation):
            return
        self.cancel(keep_partial=False)

    def work(self) -> Generator[object, None, Any]:
        self._check()
        path = None
        try:
            self.stage = _("reading the CT")
            path = yield from self._files.acquire(self.ct)
            result = yield from self.child((yield from self._arguments(path)))
            yield from self._take_over(result)
            return self.outputNode
        except (JobCancelled, JobError):
            self._keep_or_undo()
            raise
        except GeneratorExit:
            if not slicer.mrmlScene.IsClosing():
                self._undo()
            raise
        finally:
            if path is not None:
                self._files.release(path)

    def on_event(self, event: Event) -> Generator[object, None, Any] | None:
        if event.name == "volume":
            self._facts.update(event.facts)
            self._slices = list(self._facts.pop("slices", None) or ())
        elif event.name == "slice":
            return self._slice_came(event)
        return None

    def idle(self) -> None:
        if self._output.refresh():
            self.tell("slice")

    def _check(self) -> None:
        if not nodes.in_scene(self.ct):
            raise JobError(_("the CT is not part of the scene"), "InputError", _("Choose a volume."))
        if self._mr is not None and self._mr in (self.ct,):
            raise JobError(_("the output is the CT itself"), "InputError", _("Choose another output volume."))
        to_world(self.ct)  # refuses transforms that are not linear

    def _arguments(self, path: Path) -> Generator[object, None, Any]:
        arguments = ["convert", str(path), str(self.folder / "mr.nii"), "--previews", str(self.folder / "slices")]
        arguments += self.options.arguments() + slices_argument(self.ct, self.region.slices)
        if self._wants_soft_mask:
            arguments += ["--soft-mask", str(self.folder / "soft_mask.nii")]
        if self._start_slice is not None:
            arguments += ["--start-slice", str(self._start_slice)]
        if self.region.roi is not None or self.region.segmentation is not None:
            self.stage = _("preparing the region")
            mask = self.folder / "mask.nrrd"
            yield from write_mask(mask, self.ct, self.region.roi, self.region.segmentation)
            arguments += ["--mask", str(mask)]
        return arguments

    def _slice_came(self, event: Event) -> Generator[object, None, Any]:
        index, axis, values = event.count("slice"), event.count("axis"), event.text("values")
        path = Path(values)
        if index is None or axis not in (0, 1, 2) or path.parent != self.folder / "slices":  # it is deleted below
            return
        low, high = self._range()
        first = not self._output.begun
        if first:
            yield from self._output.begin(self._name(), low, high)
            if self._mr is None:  # a node of the user's keeps its own words until the result is there
                facts = {**self.options.facts(), **self._facts}
                provenance.write_provenance(self.outputNode, facts, ct=self.ct, partial="being made")
        if not self._output.put(index, axis, path):
            self.say(f"slice {index} could not be shown")
            return
        for file in (path, path.with_suffix(".png")):
            file.unlink(missing_ok=True)
        total = event.count("total") or len(self._slices) or slice_count(self.ct)
        self._slice_total = total
        done = event.count("done") or len(self._output.slices_done)
        self.detail = _("slice {done} of {total}").format(done=done, total=total)
        if self._output.refresh(force=first):
            self.tell("slice")

    def _take_over(self, result: dict[str, Any]) -> Generator[object, None, Any]:
        self.stage, self.detail, self.fraction = _("showing the result"), "", None
        self._facts.update(result)
        if not self._output.begun:
            yield from self._output.begin(self._name(), *self._range())
        yield from self._output.complete(self.folder / "mr.nii")
        yield from _remove(self.folder / "mr.nii")
        mr = self.outputNode
        if result.get("uncertainty"):
            role, path = provenance.UNCERTAINTY_ROLE, Path(str(result["uncertainty"]))
            self.uncertaintyNode = yield from self._beside(path, "uncertainty", _("{mr} uncertainty"), role, None)
        if self._wants_soft_mask:
            role = provenance.SOFT_MASK_ROLE
            path = self.folder / "soft_mask.nii"
            self.softMaskNode = yield from self._beside(path, "soft mask", _("{mr} soft mask"), role, (0.0, 1.0))
        self._drop_stale_maps(result)
        provenance.write_provenance(mr, result, ct=self.ct)
        self._remember(result)
        self.tell("slice")

    def _drop_stale_maps(self, result: dict[str, Any]) -> None:
        """The maps of an earlier result in the same node go with it, unless they are made anew."""
        made_anew = {
            provenance.UNCERTAINTY_ROLE: bool(result.get("uncertainty")),
            provenance.SOFT_MASK_ROLE: self._wants_soft_mask,
        }
        for role, kept in made_anew.items():
            node = self.outputNode.GetNodeReference(role)
            if node is not None and not kept:
                slicer.mrmlScene.RemoveNode(node)

    def _beside(
        self, path: Path, content: str, name: str, role: str, window: tuple[float, float] | None
    ) -> Generator[object, None, Any]:
        """The node of another result, referred to by the MR; the one of an earlier run is filled anew."""
        mr = self.outputNode
        known = mr.GetNodeReference(role)
        node = yield from import_volume(path, name.format(mr=mr.GetName()), self.ct, known, window)
        yield from _remove(path)
        if node is not known:
            self._made.append(node)
        provenance.write_provenance(node, self._facts, ct=self.ct, content=content)
        mr.SetNodeReferenceID(role, node.GetID())
        return node

    def _keep_or_undo(self) -> None:
        done = len(self._output.slices_done)
        if not (self.keep_partial and done and nodes.in_scene(self.outputNode)):
            self._undo()
            return
        self._output.refresh(force=True)
        facts = {**self.options.facts(), **self._facts}
        provenance.write_provenance(self.outputNode, facts, ct=self.ct, partial=f"{done} of {self._slice_total} slices")
        self.say(f"kept {done} of {self._slice_total} slices")

    def _undo(self) -> None:
        self._output.undo()
        for node in self._made:
            if nodes.in_scene(node):
                slicer.mrmlScene.RemoveNode(node)
        self._made = []
        self.uncertaintyNode = self.softMaskNode = None

    def _range(self) -> tuple[float, float]:
        return Event("", self._facts).numbers("output_range", 2) or _DEFAULT_RANGE  # type: ignore[return-value]

    def _name(self) -> str:
        is_demo = self._facts.get("demo", self.options.model == "demo")
        target = Event("", self._facts).text("target_modality") or "MR"
        name = _("{ct} synthetic {target} (DEMO)") if is_demo else _("{ct} synthetic {target}")
        return name.format(ct=self.ct.GetName(), target=target)

    def _remember(self, result: dict[str, Any]) -> None:
        seconds, slices = result.get("seconds"), result.get("slices")
        if not isinstance(seconds, dict) or not isinstance(slices, int):
            return
        times = Event("", seconds)
        total, synthesis = times.number("total"), times.number("synthesising")
        if total is None or synthesis is None:
            return
        mode = Event("", result).text("mode") or self.options.mode or SAMPLE
        work = slices * evaluations(mode, self.options.steps, self.options.samples)
        dimensions = self.ct.GetImageData().GetDimensions()
        self._history.record(
            self.options.model,
            str(result.get("device", self.options.device)),
            self.options.decoder,
            noise=draws_noise(mode, self.options.samples),
            setup=max(0.0, total - synthesis),
            synthesis=synthesis,
            work=work,
            voxels=dimensions[0] * dimensions[1] * dimensions[2],
            peak_bytes=Event("", result).count("peak_memory_bytes"),
        )


def _remove(path: Path) -> Generator[object, None, Any]:
    """Remove a big file in a step of its own: that takes some milliseconds."""
    path.unlink(missing_ok=True)
    yield None
