"""``diffma demo``: a rendered head or a file of yours, converted, with a side-by-side picture."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from DiffMaCore.cli.convert import add_model_options, check_model_options, load_pipeline, sampling_options

if TYPE_CHECKING:
    import SimpleITK as sitk

    from DiffMaCore.bundles.config import BundleConfig
    from DiffMaCore.imaging.phantom import Phantom

SHOWN_SLICES = 4


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="render a head (or take a file), convert it, write a side-by-side picture",
        description="Convert a head rendered from a label map that the demo was not trained on, or a CT of yours, and"
        " write CT, synthetic MRI and a picture of both side by side (research only).",
    )
    parser.add_argument("input", nargs="?", type=Path, metavar="CT", help="a CT to use instead")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("out"), metavar="FOLDER", help="where the results go (default: out)"
    )
    parser.add_argument("--phantom-seed", type=int, default=1, help="which rendering to make (default 1)")
    add_model_options(parser)
    parser.set_defaults(run=run, samples=1)


def run(args: argparse.Namespace) -> int:
    from DiffMaCore.imaging.inputs import InputItem
    from DiffMaCore.imaging.reading import read_volume
    from DiffMaCore.imaging.writing import write_volume
    from DiffMaCore.inference.convert import ConvertOptions, convert

    check_model_options(args)
    began = time.monotonic()
    reporter = args.reporter
    phantom, truth = None, None
    source = args.input
    if source is None:
        from DiffMaCore.imaging.phantom import head_phantom

        reporter.stage("rendering a head")
        phantom = head_phantom(args.phantom_seed)
        source = args.output / "phantom_ct.nii.gz"
        write_volume(phantom.ct_image(), source, like=phantom.ct_image(), metadata={"content": "rendered head"})
    reporter.stage("loading model")
    pipe = load_pipeline(args, reporter)
    if phantom is not None:
        truth = _truth(phantom, pipe.bundle.target_modality)
    options = ConvertOptions(**sampling_options(args))
    target = args.output / "synthetic_mr.nii.gz"
    result = convert(pipe, InputItem(source, "demo"), target, options, reporter)
    reporter.close()
    picture = args.output / "side_by_side.png"
    _draw(read_volume(source).image, result.mr, truth, pipe.bundle, picture)
    seconds = time.monotonic() - began
    print(f"wrote {target} and {picture} in {seconds:.1f} s ({pipe.bundle.title}, synthetic image, research only)")
    return 0


def _truth(phantom: Phantom, modality: str) -> sitk.Image | None:
    """The rendering's own MRI of the model's contrast, where it has one."""
    word = modality.lower().removeprefix("mr ").strip()
    return phantom.mr_image(word) if word in phantom.mr else None


def _draw(ct: sitk.Image, mr: sitk.Image, truth: sitk.Image | None, bundle: BundleConfig, picture: Path) -> None:
    import numpy as np
    import SimpleITK as sitk

    from DiffMaCore.imaging.body import body_of
    from DiffMaCore.imaging.grid import SliceGrid
    from DiffMaCore.imaging.pictures import CT_WINDOW, Column, side_by_side, spread_indices

    body = body_of(ct)
    grid = SliceGrid.from_image(ct, body, bundle.pixel_spacing, bundle.image_size)
    columns = [Column("CT", ct, CT_WINDOW), Column("synthetic MRI", mr, bundle.output_range)]
    if truth is not None:
        bright = float(np.percentile(sitk.GetArrayViewFromImage(truth)[body], 99.5))
        columns.append(Column("the rendered MRI", truth, (0.0, bright)))
    caption = f"{bundle.title}: synthetic image, research only"
    side_by_side(columns, grid, spread_indices(body, grid.array_axis, SHOWN_SLICES), picture, caption)
