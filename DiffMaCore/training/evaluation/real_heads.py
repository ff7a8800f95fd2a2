"""Any bundle on real heads: CTs alone, judged by what they show themselves, and paired slices beside a true MRI."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from DiffMaCore.errors import DiffMaError, InputError
from DiffMaCore.imaging.agreement import agreement, agreement_words, contrast_of
from DiffMaCore.imaging.checks import check_ct
from DiffMaCore.imaging.inputs import find_inputs
from DiffMaCore.imaging.reading import read_volume
from DiffMaCore.progress import Reporter
from DiffMaCore.training.evaluation.head_measures import likeness
from DiffMaCore.training.evaluation.picture_pairs import WINDOW, PicturePair, inside_skull, read_pair

if TYPE_CHECKING:
    from DiffMaCore.inference.pipeline import DiffMaOutput, DiffMaPipeline

OTHER_PART = ("pelvis", "abdomen", "thorax")
"""In a file's name: pairs that show no head."""


def judge_pairs(
    pipe: DiffMaPipeline,
    paths: Iterable[Path],
    reporter: Reporter | None = None,
    window: tuple[float, float] = WINDOW,
    pixel_mm: float | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Convert the CTs of paired 8-bit slices and compare with the true MRI of the bundle's contrast.

    Inside the skull, where the window of the CT shows anything, and after a linear fit to the truth patient by patient:
    pictures have no units. The CT itself is fitted likewise and stands beside: a model that adds nothing is no better.

    Args:
        pipe: the loaded bundle.
        paths: ``.npz`` files, or folders of them (pelves in them are passed over).
        reporter: told about every patient.
        window: HU that 0 and 255 of the CT stand for.
        pixel_mm: size of a pixel; None: by the size of the brain.
        options: for ``pipe(image, ...)``, such as ``num_inference_steps``.

    Returns:
        ``contrast`` and ``cases``: name to the ``mr``'s and the ``ct``'s correlation, ssim and psnr, and the number of
        slices that were judged.

    Raises:
        InputError: a file is damaged, has no such contrast, or none shows the inside of a skull.
    """
    reporter = reporter or Reporter()
    contrast = contrast_of(pipe.bundle.target_modality)
    pairs = [read_pair(path) for path in _npz_files(paths)]
    cases: dict[str, Any] = {}
    for number, pair in enumerate(pairs, start=1):
        reporter.stage(f"pair {pair.name} ({number} of {len(pairs)})")
        found = _judge_pair(pipe, pair, contrast, window, pixel_mm, options)
        if found:
            cases[pair.name] = found
        else:
            reporter.warning(f"{pair.name} is left out: none of its CT slices shows a closed skull")
    if not cases:
        raise InputError("no CT slice shows a closed skull; give heads, with --ct-window as they were windowed")
    return {"contrast": contrast, "cases": cases}


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


def _judge_pair(
    pipe: DiffMaPipeline,
    pair: PicturePair,
    contrast: str,
    window: tuple[float, float],
    pixel_mm: float | None,
    options: dict[str, Any],
) -> dict[str, Any] | None:
    truth = pair.mrs.get(contrast)
    if truth is None:
        raise InputError(f"{pair.name} has no array {contrast} but {', '.join(pair.mrs)}; give pairs with a {contrast}")
    brain = inside_skull(pair.ct)
    if not brain.any():
        return None
    made = sitk.GetArrayFromImage(pipe(pair.image(window, pixel_mm), **options).mr)
    return {
        "slices": int(brain.any(axis=(1, 2)).sum()),
        "mr": asdict(likeness(made, truth, brain)),
        "ct": asdict(likeness(pair.ct, truth, brain)),
    }


def judge_cts(
    pipe: DiffMaPipeline, paths: Iterable[Path], reporter: Reporter | None = None, **options: Any
) -> dict[str, Any]:
    """Convert head CTs and measure how well each MRI follows its CT (:mod:`DiffMaCore.imaging.agreement`).

    Args:
        pipe: the loaded bundle.
        paths: as for ``diffma convert``: files, DICOM folders, folders of these.
        reporter: told about every CT.
        options: for ``pipe(image, ...)``, such as ``num_inference_steps`` or ``slices``.

    Returns:
        ``contrast`` and ``cases``: name to the figures of ``Agreement``, or to ``problem``, a sentence, where a CT
        cannot be judged.
    """
    reporter = reporter or Reporter()
    contrast = contrast_of(pipe.bundle.target_modality)
    items = find_inputs(paths)
    cases: dict[str, Any] = {}
    for number, item in enumerate(items, start=1):
        reporter.stage(f"CT {item.output_stem} ({number} of {len(items)})")
        try:
            ct, _ = check_ct(read_volume(item.path, item.series).image)
            output: DiffMaOutput = pipe(ct, **options)
            found = agreement(ct, output.mr, contrast)
        except DiffMaError as problem:
            reporter.warning(f"{item.output_stem} is not judged: {problem}")
            cases[item.output_stem] = {"problem": str(problem)}
        else:
            reporter.note(f"{item.output_stem}: {agreement_words(found)}")
            cases[item.output_stem] = found.to_dict()
    return {"contrast": contrast, "cases": cases}


def means(cases: dict[str, Any], *keys: str) -> dict[str, float | None]:
    """Mean of each figure over the cases that have it; None where none has. A dot leads inwards: ``mr.ssim``."""
    return {key: _mean(_reach(case, key) for case in cases.values()) for key in keys}


def _reach(case: dict[str, Any], key: str) -> float | None:
    value: Any = case
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(there)) if there else None
