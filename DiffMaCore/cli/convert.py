"""``diffma convert``: CT volumes in, synthetic MRIs out, in the CT's own geometry."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from DiffMaCore.cli.commands import Option, command, silence_other_bars
from DiffMaCore.cli.options import CLUSTER, DEVICE, SERIES, read_cluster, read_into
from DiffMaCore.diffusion.schedulers import DEFAULT_STEPS
from DiffMaCore.errors import InputError
from DiffMaCore.inference.options import ConvertOptions

if TYPE_CHECKING:
    from DiffMaCore.imaging.inputs import InputItem
    from DiffMaCore.inference.cohort import Cohort
    from DiffMaCore.inference.pipeline import DiffMaPipeline
    from DiffMaCore.progress import Reporter

FORMATS = {"nii.gz": ".nii.gz", "nii": ".nii", "nrrd": ".nrrd", "mha": ".mha", "dicom": ""}

MODEL = (
    Option(
        "--model",
        default="demo",
        metavar="NAME|FOLDER",
        help="an installed model (see `diffma models list`) or a bundle's folder; default: the bundled DEMO, trained on"
        " rendered heads",
    ),
    Option(
        "--mode",
        choices=("mean", "sample"),
        help="mean: the expected image, in one step, without noise or seed; sample: a sample of what the MRI might be,"
        " by --steps, --scheduler and --seed. Default: what the model was made for (the demo: mean)",
    ),
    Option("--steps", type=int, default=DEFAULT_STEPS, help=f"sampling steps, 1 to 1000 (default {DEFAULT_STEPS})"),
    Option(
        "--scheduler",
        metavar="NAME",
        help="dpm++, unipc, ddim or ddpm, which wants about 250 steps; default: the model's own (dpm++)",
    ),
    Option("--seed", type=int, default=0, help="seed of the noise (default 0)"),
    Option(
        "--decoder",
        choices=("full", "small", "guided"),
        help="what turns latents into images: guided sees the CT as well (default, where the model has it), full is the"
        " model's VAE, small is faster and approximate (see `diffma models show`); the result says which",
    ),
    DEVICE,
    Option(
        "--scan-backend",
        default="auto",
        metavar="B",
        help="selective scan: auto (default), triton, mamba-ssm, numba or torch; one that cannot run is an error",
    ),
    Option(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the denoiser: bfloat16 has half as many bits and hardly changes the result; auto (default) takes it on"
        " NVIDIA GPUs that compute in it; float32 there means without TF32 as well",
    ),
    Option("--batch-size", type=int, metavar="N", help="slices at once (default: what fits the memory)"),
)
"""Which model samples how, and on what."""


@command(
    "convert",
    Option("input", nargs="+", type=Path, metavar="INPUT", help="CT in HU"),
    Option("output", type=Path, metavar="OUTPUT", help="where the synthetic MRI goes"),
    *MODEL,
    Option(
        "--samples",
        type=int,
        default=1,
        metavar="K",
        help="noises to draw (default 1); more than one also writes their standard deviation, the model's uncertainty,"
        " and takes K times as long; --mode sample then gives their mean",
    ),
    Option(
        "--uncertainty",
        action="store_true",
        help="also write how far off the expected image may be, as a standard deviation, where the model tells it by"
        " itself (the demo does, in one step); --samples writes one anyway, of what the samples differ by",
    ),
    SERIES,
    Option("--mask", type=Path, metavar="FILE", help="label volume: only voxels inside it are converted"),
    Option("--slices", metavar="A:B", help="only slices A to B-1 along the superior-inferior axis"),
    Option("--soft-mask", type=Path, metavar="FILE", help="also write the soft mask as a volume"),
    Option("--format", choices=FORMATS, help="file format when OUTPUT is a folder for several results"),
    Option(
        "--start-slice",
        type=int,
        metavar="K",
        help="which slice to make first; the others follow outwards (default: the middle one). The result is the same",
    ),
    *CLUSTER,
    Option(
        "--previews",
        type=Path,
        metavar="FOLDER",
        help="with --progress json: where finished slices are saved (default: a new temporary folder; it is the"
        " reader's to delete)",
    ),
)
def convert(args: argparse.Namespace) -> int:
    """Turn CT volumes into synthetic MRIs in the CT's own geometry (research only).

    INPUT   .nii .nii.gz .nrrd .nhdr .mha .mhd, a DICOM file, or a folder with a DICOM series; also several of them,
            a folder of volumes, or a .csv with a column "input" (and, if you like, output, series, mask)
    OUTPUT  .nii.gz .nii .nrrd .mha, or a folder (a name without extension) for a DICOM series;
            with several inputs, the folder for all results

    The image is the expected one (--mode mean), or in sample mode a sample: every slice then starts from the same
    seeded noise, so neighbours agree. Either can be repeated exactly.
    Every result is a synthetic image for research only, not for diagnosis or treatment planning.
    The exit status is 1 if some of several volumes failed.

    examples:
      diffma convert head.nii.gz mri.nii.gz
      diffma convert DICOM_FOLDER mri.nrrd --series 3 --mode sample --steps 30
      diffma convert head.nii.gz mri.nii.gz --uncertainty        also writes mri_uncertainty.nii.gz
      diffma convert head.nii.gz mri.nii.gz --samples 8          the same of 8 samples, in more time
      diffma convert head.nii.gz mri.nii.gz --decoder small      faster, approximate, for models that have one
      diffma convert a.nii.gz b.nrrd cohort/ RESULTS --format nii.gz

    Many volumes are shared among a cluster's workers, each on a GPU of its own (pip install 'DiffMaCore[cluster]'):
      diffma convert cohort/ RESULTS --cluster local                this machine; --workers 4 for so many
      diffma convert cohort/ RESULTS --cluster slurm --workers 16
      diffma convert cohort/ RESULTS --cluster tcp://HOST:8786      where `dask scheduler` and `dask worker` run
    The volume of a lost worker is made by another. A second start keeps the results that are there, unless their
    source, model or settings are not the same.
    """
    reporter: Reporter = args.reporter
    options = read_into(ConvertOptions, args)
    began = time.monotonic()
    items, single = _inputs(args)
    cluster = read_cluster(args)
    if single and cluster is not None:
        raise InputError("--cluster shares several volumes, and there is one; leave --cluster out")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("a launcher's processes share no volumes; start the plain command with --cluster local")
    from DiffMaCore.imaging import reader

    if cluster is None:
        reader.start()  # while the model is loaded
    reporter.stage("loading model")
    from DiffMaCore.inference.cohort import Placement, convert_many
    from DiffMaCore.inference.convert import convert

    placement = None if cluster is None else Placement(cluster, args.device, args.scan_backend, args.precision)
    pipe = load_pipeline(args, reporter, here=cluster is None)
    if single:
        convert(pipe, items[0], args.output, options, reporter)
        reporter.close()
        if args.progress == "bar":
            print(f"wrote {args.output} in {time.monotonic() - began:.1f} s ({_made_by(pipe)})")
        return 0
    extension = FORMATS[args.format or "nii.gz"]
    cohort = convert_many(pipe, items, args.output, extension, options, reporter, placement)
    reporter.close()
    _summarise(args, len(items), cohort, pipe, time.monotonic() - began)
    return 1 if cohort.failures else 0


def _inputs(args: argparse.Namespace) -> tuple[list[InputItem], bool]:
    """The volumes to convert, and whether OUTPUT names the one result."""
    from DiffMaCore.imaging.inputs import find_inputs
    from DiffMaCore.imaging.reading import is_volume_file
    from DiffMaCore.imaging.writing import output_format

    items = find_inputs(args.input)
    single = len(args.input) == 1 and len(items) == 1 and args.format is None
    if single:
        output_format(args.output)
    elif args.output.is_file() or is_volume_file(args.output):
        raise InputError(f"with several inputs OUTPUT is a folder, but {args.output} names a file; name a folder")
    elif args.soft_mask:
        raise InputError("--soft-mask names one file, so it goes with one input; convert the volumes one by one")
    return items, single


def load_pipeline(args: argparse.Namespace, reporter: Reporter, here: bool = True) -> DiffMaPipeline:
    """The bundle of ``--model`` on the device of ``--device``, if it is to run ``here``; the choice is reported."""
    from DiffMaCore.devices import keep_freed_memory
    from DiffMaCore.inference.pipeline import DiffMaPipeline

    keep_freed_memory()
    silence_other_bars()
    pipe = DiffMaPipeline.from_pretrained(args.model)
    pipe.decoder(args.decoder)
    pipe.mode(args.mode)
    where = ""
    if here:
        backend = pipe.set_device(args.device, args.scan_backend, args.precision)
        where = f"; device {pipe.device}, {pipe.precision}, selective scan by {backend}"
    reporter.note(f"model: {_made_by(pipe)}{where}")
    reporter.window = pipe.bundle.output_range
    return pipe


def _made_by(pipe: DiffMaPipeline) -> str:
    return f"{pipe.bundle.title}, synthetic image, research only"


def _summarise(args: argparse.Namespace, total: int, cohort: Cohort, pipe: DiffMaPipeline, seconds: float) -> None:
    converted = cohort.made + cohort.kept
    if args.progress == "json":
        args.reporter.summary(converted, [{"input": str(f.input), "reason": f.reason} for f in cohort.failures])
        return
    kept = f" ({cohort.kept} before, with the same settings)" if cohort.kept else ""
    done = f"{converted} of {total} volumes converted into {args.output}{kept}"
    print(f"{done} in {seconds:.1f} s ({_made_by(pipe)})")
    for failure in cohort.failures:
        print(f"  failed: {failure.sentence}", file=sys.stderr)
