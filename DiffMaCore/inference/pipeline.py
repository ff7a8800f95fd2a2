"""A volume in, a synthetic one of another modality in the same geometry out, slice batch by slice batch."""

from __future__ import annotations

import platform
import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from DiffMaCore import __version__
from DiffMaCore.bundles.config import DECODERS, RESEARCH_ONLY
from DiffMaCore.configuring import names_wrong_arguments
from DiffMaCore.devices import free_memory, gib
from DiffMaCore.diffusion.pipeline import SlicePipeline
from DiffMaCore.diffusion.schedulers import DEFAULT_STEPS, scheduler_name
from DiffMaCore.errors import InputError, OutOfMemory
from DiffMaCore.imaging.body import with_outline
from DiffMaCore.imaging.checks import anatomy_notes, with_voxels
from DiffMaCore.imaging.grid import SliceGrid
from DiffMaCore.imaging.source import ready_source
from DiffMaCore.imaging.training_range import training_words
from DiffMaCore.inference.batches import BatchRun, MadeSlices
from DiffMaCore.inference.options import Sampling
from DiffMaCore.progress import Reporter


@dataclass(frozen=True)
class DiffMaOutput:
    """What a run gives; every image has the source's size, spacing, origin and direction.

    Attributes:
        mr: synthetic MRI (of a bundle for MRIs, perhaps a CT), in the bundle's units: the expected image, or in sample
            mode the mean over the samples.
        uncertainty: calibrated standard deviation, same units: over the samples, or for one sample in mean mode the
            error that the decoder expects of its image; None where neither was asked for.
        soft_mask: the Vision Embedder's weight of every token, 0 to 1 (the paper's Figure 1).
        metadata: how the result was made.
        notes: what the user should know about this volume.
        slices: indices of the slices that were made, in the order in which they were.
    """

    mr: sitk.Image
    uncertainty: sitk.Image | None
    soft_mask: sitk.Image
    metadata: dict[str, Any]
    notes: tuple[str, ...]
    slices: tuple[int, ...]


class DiffMaPipeline(SlicePipeline):
    """CT to synthetic MRI with one model bundle.

    >>> pipe = DiffMaPipeline.from_pretrained("demo")
    >>> out = pipe(image)  # a SimpleITK image in HU; mode="sample", num_inference_steps=15, seed=0 draws a sample

    ``out.mr``, ``out.uncertainty`` and ``out.soft_mask`` are SimpleITK images in the CT's geometry.
    Research only.
    """

    @names_wrong_arguments
    def __call__(
        self,
        image: sitk.Image,
        mode: str | None = None,
        num_inference_steps: int = DEFAULT_STEPS,
        seed: int = 0,
        scheduler: str | None = None,
        samples: int = 1,
        mask: sitk.Image | None = None,
        slices: tuple[int, int] | None = None,
        batch_size: int | None = None,
        start_slice: int | None = None,
        decoder: str | None = None,
        uncertainty: bool = False,
        reporter: Reporter | None = None,
    ) -> DiffMaOutput:
        """Synthesise an MRI of a CT volume: of whatever kind of volume the bundle takes.

        In sample mode every slice starts from the same seeded noise, so neighbours agree and a run can be repeated
        exactly; mean mode draws no noise.

        Args:
            image: 3D CT in HU (for a bundle with ``source_normalisation`` an MRI), any orientation.
            mode: "mean", the expected image in one step, or "sample"; None is the bundle's default.
            num_inference_steps: sampling steps, 1 to 1000, of samples.
            seed: of the noise.
            scheduler: short name; None is the bundle's own.
            samples: number of noises; with more than one their standard deviation is given with the mean, which in
                mean mode is still the expected image.
            mask: label image on the same grid; voxels outside it become background.
            slices: first and one past the last index along the image axis closest to superior-inferior.
            batch_size: slices at once; None takes what fits the memory. Where it is too many all the same, half as
                many are taken, and half of these; the batch changes no result beyond float32's rounding.
            start_slice: the slice to begin with, the others follow outwards; None is the middle one. The order
                changes no voxel.
            decoder: "full" is the VAE's; "small" is faster and approximate, "guided" sees the CT as well, where the
                bundle has them; None is the best it has.
            uncertainty: of one sample, too: the error that the decoder expects of the expected image, in the same
                step. More samples give theirs anyway.
            reporter: gets the progress and every finished slice.

        Raises:
            InputError: not the kind of image the bundle takes, nothing to convert, a number out of range, a decoder
                that the bundle does not have, or the uncertainty of one sample where nothing tells it.
            ModelError: the network failed.
            OutOfMemory: the volume or a single slice needs more than there is.
            TypeError: an argument's name is wrong, with the nearest one.
        """
        sampling = Sampling(
            mode, num_inference_steps, scheduler, seed, samples, decoder, batch_size, start_slice, uncertainty
        )
        return self.synthesise(image, sampling, mask, slices, reporter)

    def resolved(self, sampling: Sampling) -> Sampling:
        """With the bundle's mode and decoder where none is given; InputError where it has not what is asked for."""
        mode, decoder = self.mode(sampling.mode), self.decoder(sampling.decoder)
        if sampling.uncertainty_of == "decoder" and not self.tells_uncertainty(mode, decoder):
            raise InputError(
                f"the model {self.bundle.name} tells no uncertainty of one image in the mode {mode} by its {decoder}"
                " decoder; draw some --samples"
            )
        return replace(sampling, mode=mode, decoder=decoder)

    def synthesise(
        self,
        image: sitk.Image,
        sampling: Sampling,
        mask: sitk.Image | None = None,
        slices: tuple[int, int] | None = None,
        reporter: Reporter | None = None,
    ) -> DiffMaOutput:
        """Synthesise as a call does, with its options in one object."""
        _check_images(image, mask)
        sampling = self.resolved(sampling)
        reporter = reporter or Reporter()
        bundle = self.bundle
        low = float(bundle.output_range[0])

        reporter.stage("preparing")
        source = ready_source(image, bundle.source_normalisation)
        image, body = source.image, source.body
        array = sitk.GetArrayViewFromImage(image)
        grid = SliceGrid.from_image(image, body, bundle.pixel_spacing, bundle.image_size)
        notes = [*source.notes, *anatomy_notes(image, body, bundle.anatomy), *grid.notes]
        for note in notes:
            reporter.warning(note)
        keep = with_outline(body, array, grid.reach(bundle.pixel_spacing)) if bundle.takes_ct else body
        if mask is not None:
            keep = keep & (sitk.GetArrayViewFromImage(mask) > 0)
        first, last = slices or (0, grid.n_slices)
        active = [i for i in range(max(0, first), min(last, grid.n_slices)) if keep.take(i, axis=grid.array_axis).any()]
        if not active:
            raise InputError(
                "no part of the body lies inside the given mask and slices; choose others, or leave them out"
            )

        mr = np.full(array.shape, low, np.float32)
        spread = np.zeros(array.shape, np.float32) if sampling.uncertainty_of else None
        weights = np.zeros(array.shape, np.float32)
        batch = _choose_batch(self, sampling, array, reporter)
        batches = _outwards([active[i : i + batch] for i in range(0, len(active), batch)], sampling.start_slice)
        order = [index for indices in batches for index in indices]
        reporter.volume(
            order,
            model=bundle.name,
            model_title=bundle.title,
            demo=bundle.demo,
            target_modality=bundle.target_modality,
            output_range=list(bundle.output_range),
            decoder=DECODERS[self.decoder(sampling.decoder)],
            shape=list(array.shape),
            axis=grid.array_axis,
        )
        report_lock = threading.Lock()  # slices may be finished in another thread

        def read(indices: list[int]) -> torch.Tensor:
            distance = bundle.neighbour_distance
            if distance is None:
                return torch.from_numpy(grid.slices(array, indices, source.outside))
            return torch.from_numpy(grid.neighbours(array, indices, distance, source.outside))

        def finish(indices: list[int], made: MadeSlices) -> None:
            outside = ~grid.planes(keep, indices)
            planes = grid.restore(made.image, fill=low)
            planes[outside] = low
            grid.insert(mr, indices, planes)
            if spread is not None:
                uncertain = grid.restore(made.uncertainty, fill=0.0)
                uncertain[outside] = 0.0
                grid.insert(spread, indices, uncertain)
            grid.insert(weights, indices, grid.restore(made.soft_masks, fill=0.0))
            for index, picture in zip(indices, grid.upright(planes), strict=True):
                values = np.moveaxis(mr, grid.array_axis, 0)[index]
                with report_lock:
                    reporter.slice_done(index, grid.array_axis, values, picture)

        batch = BatchRun(self, sampling, read, finish, reporter, report_lock).run(batches) or batch
        metadata = provenance(self, sampling, batch)
        if sampling.mode == "mean" and bundle.slice_smoothing:
            grid.smooth_across(mr, keep, active, bundle.slice_smoothing)
        if bundle.takes_ct:
            words, warns = training_words(image, bundle.trained_on)
            metadata["training_words"] = words
            if warns:
                reporter.warning(words)
                notes.append(words)
        return DiffMaOutput(
            mr=with_voxels(mr, image),
            uncertainty=None if spread is None else with_voxels(spread, image),
            soft_mask=with_voxels(weights, image),
            metadata=metadata,
            notes=tuple(notes),
            slices=tuple(order),
        )


def _outwards(batches: list[list[int]], start: int | None) -> list[list[int]]:
    """The same batches from the one that holds slice ``start`` (None: the middle one) outwards."""
    if start is None:
        middle = batches[len(batches) // 2]
        start = middle[len(middle) // 2]
    return sorted(batches, key=lambda indices: max(indices[0] - start, start - indices[-1], 0))


def provenance(pipe: SlicePipeline, sampling: Sampling, batch: int) -> dict[str, Any]:
    """How a result was made, as it stands in its file: model, checksum, sampling, software, and the notice."""
    drawn = {
        "steps": sampling.steps,
        "scheduler": sampling.scheduler or scheduler_name(pipe.scheduler),
        "seed": sampling.seed,
    }
    return {
        "notice": f"SYNTHETIC IMAGE. {RESEARCH_ONLY}",
        "model": pipe.bundle.name,
        "model_title": pipe.bundle.title,
        "model_size": pipe.denoiser.title,
        "model_sha256": pipe.checksum or "unsaved",
        "source_modality": pipe.bundle.source_modality,
        "target_modality": pipe.bundle.target_modality,
        "output_units": pipe.bundle.output_units,
        "mode": sampling.mode,
        **(drawn if sampling.draws else {"steps": 1}),
        "samples": sampling.samples,
        **({"uncertainty_of": sampling.uncertainty_of} if sampling.uncertainty_of else {}),
        "decoder": DECODERS[pipe.decoder(sampling.decoder)],
        "batch_size": batch,
        "device": str(pipe.device),
        "scan_backend": pipe.scan_backend,
        "precision": pipe.precision,
        "scan_order": pipe.denoiser.scan_order,
        "software": f"DiffMaCore {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def _check_images(image: sitk.Image, mask: sitk.Image | None) -> None:
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError("the image must be one three-dimensional volume of grey values; pass such an image")
    if mask is not None and mask.GetSize() != image.GetSize():
        raise InputError(
            f"the mask has {mask.GetSize()} voxels, the image {image.GetSize()}; resample it onto the image"
        )


def _choose_batch(pipe: SlicePipeline, sampling: Sampling, array: np.ndarray, reporter: Reporter) -> int:
    """Slices at once, which is reported; OutOfMemory where the volume or one slice needs more than is free."""
    wanted, decoder = sampling.batch_size, sampling.decoder
    # the result, the soft mask, and a copy of each as an image
    volumes = 4 * array.size * (6 if sampling.uncertainty_of else 4)
    free = free_memory(torch.device("cpu"))
    if free < volumes:
        raise OutOfMemory(f"the images of this volume need {gib(volumes)} and {gib(free)} are free")
    batch = pipe.batch_size(wanted, decoder)
    if wanted and batch < wanted:
        reporter.warning(f"{batch} instead of {wanted} slices at once: no more fit the free memory")
    need, room = gib(batch * pipe.bytes_per_slice(decoder)), gib(free_memory(pipe.device))
    reporter.note(f"{batch} slices at once, about {need} of {room} free on {pipe.device}")
    return batch
