"""``diffma demo`` and ``phantom``: a head's label map in; its CT, its MRI, or its synthetic MRI with a picture out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from DiffMaCore.cli.commands import Option, answer, command
from DiffMaCore.cli.convert import MODEL, load_pipeline
from DiffMaCore.cli.options import read_into
from DiffMaCore.errors import InputError
from DiffMaCore.inference.options import ConvertOptions

if TYPE_CHECKING:
    import SimpleITK as sitk

    from DiffMaCore.bundles.config import BundleConfig

SHOWN_SLICES = 4


@command(
    "demo",
    Option("input", nargs="?", type=Path, metavar="CT", help="a CT to use instead"),
    Option(
        "-o", "--output", type=Path, default=Path("out"), metavar="FOLDER", help="where the results go (default: out)"
    ),
    Option("--phantom-seed", type=int, default=1, help="which rendering to make (default 1)"),
    *MODEL,
    samples=1,
)
def demo(args: argparse.Namespace) -> int:
    """Render a head (or take a file), convert it, write a side-by-side picture.

    The head is rendered from a label map that the demo was not trained on. CT, synthetic MRI and a picture of both side
    by side are written (research only).
    """
    from DiffMaCore.imaging.inputs import InputItem
    from DiffMaCore.imaging.reading import read_volume
    from DiffMaCore.imaging.writing import write_volume
    from DiffMaCore.inference.convert import convert

    options = read_into(ConvertOptions, args)
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
    contrast = pipe.bundle.target_modality.lower().removeprefix("mr ").strip()
    if phantom is not None and contrast in phantom.mr:
        truth = phantom.mr_image(contrast)
    target, picture = args.output / "synthetic_mr.nii.gz", args.output / "side_by_side.png"
    result = convert(pipe, InputItem(source, "demo"), target, options, reporter)
    reporter.close()
    _draw(read_volume(source).image, result.mr, truth, pipe.bundle, picture)
    seconds = time.monotonic() - began
    text = f"wrote {target} and {picture} in {seconds:.1f} s ({pipe.bundle.title}, synthetic image, research only)"
    answer(args, {"output": str(target), "picture": str(picture)}, text)
    return 0


def _draw(ct: sitk.Image, mr: sitk.Image, truth: sitk.Image | None, bundle: BundleConfig, picture: Path) -> None:
    from dataclasses import replace

    import numpy as np
    import SimpleITK as sitk

    from DiffMaCore.imaging.body import body_of
    from DiffMaCore.imaging.grid import SliceGrid
    from DiffMaCore.imaging.pictures import CT_WINDOW, side_by_side, spread_indices

    body = body_of(ct)
    grid = SliceGrid.from_image(ct, body, bundle.pixel_spacing, bundle.image_size)
    indices = spread_indices(body, grid.array_axis, SHOWN_SLICES)
    shown = [("CT", ct, CT_WINDOW), ("synthetic MRI", mr, bundle.output_range)]
    if truth is not None:
        bright = float(np.percentile(sitk.GetArrayViewFromImage(truth)[body], 99.5))
        shown.append(("the rendered MRI", truth, (0.0, bright)))
    # as the model sees them: square pixels, anterior up, the patient's right on the left
    columns = [(title, replace(grid, image=image).ct_slices(indices), window) for title, image, window in shown]
    caption = f"{bundle.title}: synthetic image, research only"
    side_by_side(columns, 2 * grid.image_size, caption).save(picture)


@command(
    "phantom",
    Option("ct", type=Path, metavar="CT", help="the CT to write (.nii.gz, .nii, .nrrd or .mha)"),
    Option("--mr", type=Path, metavar="FILE", help="also write its MRI"),
    # phantom.signal.CONTRASTS, which takes a second to import
    Option("--contrast", choices=("t1", "t2", "flair"), default="t1", help="of the MRI (default t1)"),
    Option("--seed", type=int, default=1, help="which head (default 1); the same seed gives the same head"),
    Option("--head", metavar="NAME", help="one of the heads that come along, or a label map; else the seed picks"),
)
def phantom(args: argparse.Namespace) -> int:
    """Render a head phantom of real anatomy: a CT, and the MRI of the same head if you like (no patient's scan)."""
    if args.seed < 0:
        raise InputError(f"seed is {args.seed}; it must be 0 or more")
    args.reporter.stage("rendering a head")
    from DiffMaCore.imaging.phantom import head_phantom
    from DiffMaCore.imaging.writing import check_output, write_volume

    phantom = head_phantom(args.seed, head=args.head)
    images = {"ct": (args.ct, phantom.ct_image())}
    if args.mr:
        images["mr"] = (args.mr, phantom.mr_image(args.contrast))
    for path, image in images.values():
        check_output(path, like=image, n_volumes=len(images))
    args.reporter.stage("writing")
    notice = "Rendered from a label map of a head, no patient's scan; research only"
    for path, image in images.values():
        write_volume(image, path, like=image, metadata={"content": "rendered head phantom", "notice": notice})
    files = {name: str(path) for name, (path, _) in images.items()}
    facts = {"seed": args.seed, "head": phantom.head, "shape": list(phantom.ct.shape), "spacing_mm": [*phantom.spacing]}
    if args.mr:
        facts["contrast"] = args.contrast
    text = f"wrote {' and '.join(files.values())} (a rendered head, no patient's scan; research only)"
    answer(args, {**files, **facts}, text)
    return 0
