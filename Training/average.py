"""Two bundles of one architecture in, a third out whose denoiser and guided decoder are the mean of their weights.

Two stages of one training that are good at different things often have a mean that is good at both (Wortsman et al.
2022, "Model soups"). Everything else, the model card included, is the second bundle's.

    python -m Training.average runs/demo/bundle-before runs/demo/bundle-after runs/demo/bundle
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from DiffMaCore.bundles.config import GUIDED_DECODER, has_component, read_config
from DiffMaCore.bundles.manifest import verify
from DiffMaCore.bundles.writing import seal
from DiffMaCore.errors import DiffMaError, InputError
from DiffMaCore.files import replacing_folder

WEIGHTS = "diffusion_pytorch_model.safetensors"


def average(first: Path, second: Path, out: Path) -> None:
    """Write the mean of two bundles into the folder ``out``, in the second one's precision.

    Raises ModelError where one is no whole bundle, InputError where their networks differ in more than weights.
    """
    for folder in (first, second):
        verify(folder)
    with replacing_folder(out) as part:
        shutil.copytree(second, part, dirs_exist_ok=True)
        for name in ("denoiser", GUIDED_DECODER):
            if has_component(first, name) or has_component(second, name):
                _average_file(first / name / WEIGHTS, second / name / WEIGHTS, part / name / WEIGHTS)
        seal(part, read_config(part))


def _average_file(first: Path, second: Path, out: Path) -> None:
    if not (first.is_file() and second.is_file()):
        raise InputError(f"{first.parent} or {second.parent} is missing; average bundles of the same networks")
    ours, theirs = load_file(first), load_file(second)
    if {key: value.shape for key, value in ours.items()} != {key: value.shape for key, value in theirs.items()}:
        raise InputError(f"{first.parent} and {second.parent} differ in more than weights; average bundles of one size")
    mean = {key: torch.lerp(ours[key].float(), value.float(), 0.5).to(value.dtype) for key, value in theirs.items()}
    save_file(mean, out, metadata={"format": "pt"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for argument, meaning in (("first", "a bundle"), ("second", "another one"), ("out", "folder of the new bundle")):
        parser.add_argument(argument, type=Path, help=meaning)
    try:
        average(**vars(parser.parse_args()))
    except DiffMaError as problem:
        parser.exit(2, f"{problem}\n")
