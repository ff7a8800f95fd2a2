"""Any bundle on heads: real CTs alone, judged by what they show themselves; real CT and MRI slices of the same patients
as 8-bit pictures; and heads that are rendered on the spot, whose true MRI, tissues and body are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from DiffMaCore.errors import DiffMaError, InputError
from DiffMaCore.imaging.agreement import agreement, agreement_words, contrast_of
from DiffMaCore.imaging.body import largest_piece
from DiffMaCore.imaging.checks import check_ct
from DiffMaCore.imaging.grid import AIR_HU
from DiffMaCore.imaging.inputs import find_inputs
from DiffMaCore.imaging.phantom import Phantom, heads_in, load_head, render, tissues
from DiffMaCore.imaging.phantom.ct_artefacts import BONE, FAT
from DiffMaCore.imaging.reading import read_volume
from DiffMaCore.imaging.source import normalise
from DiffMaCore.progress import Reporter
from DiffMaCore.training.evaluation.scores import Bools, head_measures, likeness
from DiffMaCore.training.sources.heads import MR_RANGE
from DiffMaCore.training.sources.pictures import SLICE_MM, picture_body, read_npz

if TYPE_CHECKING:
    from DiffMaCore.inference.pipeline import DiffMaPipeline

OTHER_PART = ("pelvis", "abdomen", "thorax")
"""In a file's name: pairs that show no head."""
WINDOW = (0.0, 80.0)
"""HU of black and white in 8-bit CT slices of brains: the usual window."""

_WHITE = 250  # of 255: bone
_BRAIN_MM = 165.0  # front to back inside the skull, adults
_CLOSING = 6  # pixels: gaps in the ring of bone, as between the plates of the skull base
_OPENING = 4
_LEAST = 0.04  # of the picture: smaller insides are orbits and sinuses
_RIM = 2  # pixels next to bone, where a slight misalignment puts bone on brain
_RENDERED_MM = 3.0  # between slices
_SEEDS = 7_000_000  # of no training: those are below 1,000,000, and where renderings stay the same above 1,000,000


@dataclass(frozen=True)
class PicturePair:
    """One patient: ``ct`` and the MRIs by contrast, uint8 (slices, rows, columns)."""

    name: str
    ct: NDArray[np.uint8]
    mrs: dict[str, NDArray[np.uint8]]

    def hu(self, window: tuple[float, float] = WINDOW) -> NDArray[np.float32]:
        """The CT in HU, where the window does not cut them off."""
        low, high = window
        return low + self.ct.astype(np.float32) * np.float32((high - low) / 255)

    def image(self, window: tuple[float, float] = WINDOW, pixel_mm: float | None = None) -> sitk.Image:
        """The CT in HU as an axial volume; ``pixel_mm`` None: by the size of the brain.

        A brain window shows all bone white and fat as black as air, and cropped pictures have lost their scale. So
        bone and fat get the HU they usually have, air lies around, and the scale is that of an average brain.
        """
        hu = self.hu(window)
        hu[ndimage.binary_opening(self.ct >= _WHITE, np.ones((1, 2, 2)))] = BONE
        hu[self.ct == 0] = FAT
        hu[~picture_body(self.ct.astype(np.float32) / np.float32(255))] = AIR_HU
        image = sitk.GetImageFromArray(hu)
        mm = pixel_mm or self.estimated_mm()
        image.SetSpacing((mm, mm, SLICE_MM))
        return image

    def estimated_mm(self) -> float:
        """Size of a pixel if the brain is of average length; 1 where no slice shows a brain."""
        brain = inside_skull(self.ct, rim=0)
        lengths = [np.ptp(np.flatnonzero(plane.any(axis=1))) + 1 for plane in brain if plane.any()]
        return _BRAIN_MM / float(max(lengths)) if lengths else 1.0


def read_pair(path: Path) -> PicturePair:
    """The arrays ``ct`` and ``t1``, ``t2`` or ``flair`` of an ``.npz``.

    Raises InputError: damaged, no ``ct``, no MRI, or arrays that are not uint8 of one shape.
    """
    arrays = read_npz(path, ("ct", "t1", "t2", "flair"))
    ct = arrays.pop("ct", None)
    if ct is None or not arrays:
        raise InputError(f"{path} has no array ct with a t1, t2 or flair; give paired slices")
    if ct.ndim != 3 or any(array.dtype != np.uint8 or array.shape != ct.shape for array in (ct, *arrays.values())):
        raise InputError(f"{path}: the arrays must be uint8 (slices, rows, columns) and of one shape")
    return PicturePair(path.stem, ct, arrays)


def inside_skull(ct: NDArray[np.uint8], rim: int = _RIM) -> Bools:
    """What a ring of bone encloses in each windowed CT slice, without ``rim`` pixels next to it; nothing where no ring
    does."""
    inside, edge = np.zeros(ct.shape, bool), _CLOSING + 2
    for number, plane in enumerate(ct):
        bone = np.pad(ndimage.binary_opening(plane >= _WHITE), edge)
        closed = ndimage.binary_closing(bone, iterations=_CLOSING)
        hollow = (ndimage.binary_fill_holes(closed) & ~closed)[edge:-edge, edge:-edge]
        largest = largest_piece(ndimage.binary_opening(hollow, iterations=_OPENING))
        if largest.sum() >= _LEAST * plane.size:
            whole = ndimage.binary_fill_holes(largest)
            inside[number] = ndimage.binary_erosion(whole, iterations=rim) if rim else whole
    return inside


def judge_pairs(
    pipe: DiffMaPipeline,
    paths: Iterable[Path],
    reporter: Reporter | None = None,
    window: tuple[float, float] = WINDOW,
    pixel_mm: float | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Convert the CTs of paired 8-bit slices (``.npz`` files, or folders of them) and compare with the true MRI of the
    bundle's contrast.

    Inside the skull, where the ``window`` of the CT (HU of 0 and 255) shows anything, and after a linear fit to the
    truth patient by patient: pictures have no units. The CT itself is fitted likewise, for comparison: a model that
    adds nothing is no better. ``options`` are for ``pipe(image, ...)``, such as ``num_inference_steps``.

    Returns ``contrast``, ``window`` and ``cases``: name to the ``mr``'s and the ``ct``'s correlation, ssim and psnr,
    the number of ``slices`` that were judged, and ``brain_hu``, the median inside the skull: it tells a wrong window.
    Raises InputError where a file is damaged, has no such contrast, or none shows the inside of a skull.
    """
    reporter = reporter or Reporter()
    contrast = contrast_of(pipe.bundle.target_modality)
    pairs = [read_pair(path) for path in _npz_files(paths)]
    cases: dict[str, Any] = {}
    for number, pair in enumerate(pairs, start=1):
        reporter.stage(f"pair {pair.name} ({number} of {len(pairs)})")
        truth, brain = pair.mrs.get(contrast), inside_skull(pair.ct)
        if truth is None:
            stored = ", ".join(pair.mrs)
            raise InputError(f"{pair.name} has no array {contrast} but {stored}; give pairs with a {contrast}")
        if not brain.any():
            reporter.warning(f"{pair.name} is left out: none of its CT slices shows a closed skull")
            continue
        made = sitk.GetArrayFromImage(pipe(pair.image(window, pixel_mm), **options).mr)
        metrics = {name: asdict(likeness(image, truth, brain)) for name, image in (("mr", made), ("ct", pair.ct))}
        brain_hu = float(np.median(pair.hu(window)[brain]))
        cases[pair.name] = {"slices": int(brain.any(axis=(1, 2)).sum()), "brain_hu": brain_hu, **metrics}
    if not cases:
        raise InputError("no CT slice shows a closed skull; give heads, with --ct-window as they were windowed")
    return {"contrast": contrast, "window": list(window), "cases": cases}


def _npz_files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; check the spelling of the path")
        found = [path] if path.is_file() else sorted(path.glob("*.npz"))
        files += [file for file in found if not any(part in file.stem.lower() for part in OTHER_PART)]
        if not found:
            raise InputError(f"{path} holds no .npz file; give a folder of paired slices")
    if not files:
        raise InputError("none of the pairs is a head; give pairs of heads")
    return files


def judge_cts(
    pipe: DiffMaPipeline, paths: Iterable[Path], reporter: Reporter | None = None, **options: Any
) -> dict[str, Any]:
    """Convert head CTs and measure how well each MRI follows its CT (:mod:`DiffMaCore.imaging.agreement`).

    ``paths`` are as for ``diffma convert``, ``options`` for ``pipe(image, ...)``. Returns ``contrast`` and ``cases``:
    name to the metrics of ``Agreement``, or to ``problem``, a sentence, where a CT cannot be judged.
    """
    reporter = reporter or Reporter()
    contrast = contrast_of(pipe.bundle.target_modality)
    items = find_inputs(paths)
    cases: dict[str, Any] = {}
    for number, item in enumerate(items, start=1):
        reporter.stage(f"CT {item.output_stem} ({number} of {len(items)})")
        try:
            ct, _ = check_ct(read_volume(item.path, item.series).image)
            found = agreement(ct, pipe(ct, **options).mr, contrast)
        except DiffMaError as problem:
            reporter.warning(f"{item.output_stem} is not judged: {problem}")
            cases[item.output_stem] = {"problem": str(problem)}
        else:
            reporter.note(f"{item.output_stem}: {agreement_words(found)}")
            cases[item.output_stem] = found.to_dict()
    return {"contrast": contrast, "cases": cases}


def judge_heads(
    pipe: DiffMaPipeline,
    heads: Iterable[str | Path],
    draws: int = 2,
    reporter: Reporter | None = None,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """Render ``heads`` (names of the package's, label maps, or folders of them), convert their CTs and compare with the
    true MRI of the bundle's contrast inside the head.

    Of each there are ``draws`` renderings, all different; another ``seed`` gives others. ``options`` are for
    ``pipe(image, ...)``; the uncertainty is judged where the model tells it or there are several ``samples``.

    Returns ``contrast`` and ``cases``: "name draw" to the metrics of :func:`head_measures`, with a data range of 1.
    Raises InputError: no such head, or the bundle was not trained for a contrast that is rendered.
    """
    reporter = reporter or Reporter()
    contrast = contrast_of(pipe.bundle.target_modality)
    side, mm = pipe.bundle.image_size, pipe.bundle.pixel_spacing
    maps: list[str | Path] = []
    for each in heads:
        maps += heads_in(Path(each)).values() if Path(each).is_dir() else [each]
    if not maps:
        raise InputError("no head was named; give label maps, folders of them, or names of the package's heads")
    cases: dict[str, Any] = {}
    for head in map(load_head, maps):
        for draw in range(draws):
            reporter.stage(f"head {head.name} ({draw + 1} of {draws})")
            drawn = _SEEDS + seed * 1000 + draw
            phantom = render(head, drawn, (mm, mm, _RENDERED_MM), (side, side, None), contrasts=(contrast,))
            cases[f"{head.name} {draw + 1}"] = judge_phantom(pipe, phantom, contrast, **options)
    return {"contrast": contrast, "cases": cases}


def judge_phantom(pipe: DiffMaPipeline, phantom: Phantom, contrast: str, **options: Any) -> dict[str, Any]:
    """The metrics of one rendered head; ``options`` are for ``pipe(image, ...)``."""
    told = pipe.tells_uncertainty(options.get("mode"), options.get("decoder"))
    made = pipe(phantom.ct_image(), uncertainty=told, **options)
    low, high = pipe.bundle.output_range
    rendered, way = phantom.mr[contrast], pipe.bundle.mr_normalisation
    truth: NDArray[np.floating]
    if way.get("method") == "percentile":  # to [0, 1] by the bundle's own normalisation
        truth = (normalise(rendered, phantom.body, way["low"], way["high"]) + 1) / 2
    else:
        truth = (rendered - np.float32(MR_RANGE[0])) / np.float32(MR_RANGE[1] - MR_RANGE[0])
    deviation = None if made.uncertainty is None else sitk.GetArrayFromImage(made.uncertainty) / (high - low)
    return head_measures(
        (sitk.GetArrayFromImage(made.mr) - low) / (high - low),
        truth,
        phantom.body,
        phantom.labels == tissues.CORTEX.label,
        phantom.labels == tissues.WHITE.label,
        deviation,
        data_range=1.0,
    )
