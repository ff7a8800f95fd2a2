"""Any bundle on heads that are rendered on the spot, whose true MRI, tissues and body are known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from DiffMaCore.errors import InputError
from DiffMaCore.imaging.agreement import contrast_of
from DiffMaCore.imaging.phantom import Phantom, heads_in, load_head, render, tissues
from DiffMaCore.imaging.source import normalise
from DiffMaCore.progress import Reporter
from DiffMaCore.training.evaluation.head_measures import head_figures
from DiffMaCore.training.sources.heads import MR_RANGE

if TYPE_CHECKING:
    from DiffMaCore.bundles.config import BundleConfig
    from DiffMaCore.inference.pipeline import DiffMaPipeline

SLICE_MM = 3.0
_SEEDS = 7_000_000  # of no training: those are below 1,000,000, and where renderings stay the same above 1,000,000


def judge_heads(
    pipe: DiffMaPipeline,
    heads: Iterable[str | Path],
    draws: int = 2,
    reporter: Reporter | None = None,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """Render heads, convert their CTs and compare with the true MRI of the bundle's contrast inside the head.

    Args:
        pipe: the loaded bundle.
        heads: names of the package's heads (``bundled_heads``), label maps, or folders of them.
        draws: renderings of each head, all different.
        reporter: told about every rendering.
        seed: another one gives other renderings.
        options: for ``pipe(image, ...)``; with ``samples`` the uncertainty is judged too.

    Returns:
        ``contrast`` and ``cases``: "name draw" to the figures of :func:`head_figures`, with a data range of 1.

    Raises:
        InputError: no such head, or the bundle was not trained for a contrast that is rendered.
    """
    reporter = reporter or Reporter()
    contrast = contrast_of(pipe.bundle.target_modality)
    side, mm = pipe.bundle.image_size, pipe.bundle.pixel_spacing
    cases: dict[str, Any] = {}
    for path in _maps(heads):
        head = load_head(path)
        for draw in range(draws):
            reporter.stage(f"head {head.name} ({draw + 1} of {draws})")
            drawn = _SEEDS + seed * 1000 + draw
            phantom = render(head, drawn, (mm, mm, SLICE_MM), (side, side, None), contrasts=(contrast,))
            cases[f"{head.name} {draw + 1}"] = judge_phantom(pipe, phantom, contrast, **options)
    return {"contrast": contrast, "cases": cases}


def _maps(heads: Iterable[str | Path]) -> list[str | Path]:
    found: list[str | Path] = []
    for each in heads:
        found += heads_in(Path(each)).values() if Path(each).is_dir() else [each]
    if not found:
        raise InputError("no head was named; give label maps, folders of them, or names of the package's heads")
    return found


def judge_phantom(pipe: DiffMaPipeline, phantom: Phantom, contrast: str, **options: Any) -> dict[str, Any]:
    """The figures of one rendered head; ``options`` are for ``pipe(image, ...)``."""
    made = pipe(phantom.ct_image(), **options)
    low, high = pipe.bundle.output_range
    deviation = None if made.uncertainty is None else sitk.GetArrayFromImage(made.uncertainty) / (high - low)
    return head_figures(
        (sitk.GetArrayFromImage(made.mr) - low) / (high - low),
        _unit(phantom.mr[contrast], phantom.body, pipe.bundle),
        phantom.body,
        phantom.labels == tissues.CORTEX.label,
        phantom.labels == tissues.WHITE.label,
        deviation,
        data_range=1.0,
    )


def _unit(truth: NDArray[np.float32], body: NDArray[np.bool_], bundle: BundleConfig) -> NDArray[np.floating]:
    """The true MRI in [0, 1] by the bundle's own normalisation."""
    way = bundle.mr_normalisation
    if way.get("method") == "percentile":
        return (normalise(truth, body, way["low"], way["high"]) + 1) / 2
    return (truth - np.float32(MR_RANGE[0])) / np.float32(MR_RANGE[1] - MR_RANGE[0])
