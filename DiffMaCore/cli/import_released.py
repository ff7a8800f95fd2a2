"""``diffma import-released``: the authors' weights become a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from DiffMaCore.cli.models import SMALL_DECODER_HELP, bundle_facts
from DiffMaCore.cli.reporting import add_progress_option, answer, silence_other_bars

_ABOUT = """\
Turns the files that the paper's authors released into a model bundle. Patch size, latent size, depth and
width are read from the weights. The files hold neither the VAE nor the image encoder: those are taken from
the folders given, or from the hub or its local cache; without them the bundle is written incomplete and the
command that completes it later is printed."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Register ``import-released`` on an argparse subparsers object."""
    parser = subparsers.add_parser(
        "import-released", help="make a bundle of the authors' released weights", description=_ABOUT
    )
    parser.add_argument("denoiser", metavar="DENOISER", type=Path, help="the denoiser's checkpoint (.pt)")
    parser.add_argument("--embedder", required=True, type=Path, metavar="FILE", help="the embedder's checkpoint")
    parser.add_argument("--anatomy", required=True, help="what the weights were trained on, such as brain")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="BUNDLE", help="folder to write")
    parser.add_argument("--vae", metavar="FOLDER|ID", help="Stable Diffusion VAE in diffusers' layout")
    parser.add_argument("--image-encoder", metavar="FOLDER|ID", help="BiomedCLIP in open_clip's layout")
    parser.add_argument("--small-decoder", metavar="FOLDER|ID", help=SMALL_DECODER_HELP)
    parser.add_argument("--weights", choices=("ema", "model"), default="ema", help="which weights (default ema)")
    parser.add_argument(
        "--pixel-spacing", type=_spacing, default=1.0, metavar="MM", help="of the training slices (default 1)"
    )
    parser.add_argument(
        "--hu-window",
        type=_window,
        default=(-1024.0, 2000.0),
        metavar="LOW:HIGH",
        help="HU window, as --hu-window=-1000:1000 (default -1024:2000, an assumption)",
    )
    parser.add_argument("--name", help="the bundle's name (default: that of its folder)")
    add_progress_option(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the bundle; raises DiffMaError, which ``diffma`` prints as one sentence."""
    from DiffMaCore.bundles import RESEARCH_ONLY

    args.reporter.stage("importing weights")
    silence_other_bars()
    from DiffMaCore.inference.import_released import import_released

    config = import_released(
        args.denoiser,
        args.embedder,
        args.output,
        anatomy=args.anatomy,
        name=args.name,
        weights=args.weights,
        pixel_spacing=args.pixel_spacing,
        hu_window=args.hu_window,
        vae=args.vae,
        image_encoder=args.image_encoder,
        small_decoder=args.small_decoder,
        progress=args.reporter.bytes_done,
    )
    low, high = args.hu_window
    lines = [
        f"Wrote {args.output}: {config.title}.",
        f"Assumed, since the authors published neither: HU window {low:g} to {high:g}, pixels of"
        f" {args.pixel_spacing:g} mm.",
    ]
    if config.missing:
        lacking = " and ".join(name.replace("_", " ") for name in config.missing)
        lines.append(f"It is INCOMPLETE, the {lacking} could not be had: finish it with")
        lines.append(f"  {config.completing_command(str(args.output))}")
    else:
        lines.append(f"Use it with --model {args.output}, or install it with `diffma models add {args.output}`.")
    facts = bundle_facts(args.output, config, str(args.output))
    answer(args, {**facts, "assumed": lines[1]}, "\n".join([*lines, RESEARCH_ONLY]))
    return 0


def _window(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        window = (float(low), float(high))
    except ValueError:
        window = (0.0, 0.0)
    if not window[0] < window[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is no HU window: write LOW:HIGH, such as -1024:2000")
    return window


def _spacing(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no pixel spacing in mm: write a positive number")
    return value
