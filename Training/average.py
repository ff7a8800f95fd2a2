"""Two bundles of one architecture in, a third out whose denoiser and guided decoder are the mean of their weights.

Two stages of one training that are good at different things often have a mean that is good at both (Wortsman et al.
2022, "Model soups"). Everything else, the model card included, is the second bundle's.

    python -m Training.average runs/demo/bundle-before runs/demo/bundle-after runs/demo/bundle

Or one network of the first takes its place in the second, as the one that tells the expected error:

    python -m Training.average runs/demo/bundle-joint runs/demo/bundle runs/demo/bundle-both --share 1 \\
        --only guided_decoder.error
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


def average(first: Path, second: Path, out: Path, share: float = 0.5, only: str = "") -> None:
    """Write the mean of two bundles into the folder ``out``, in the second one's precision: ``share`` of it the first
    one's, of the weights whose names (``guided_decoder.head.bias``) begin with ``only``.

    Raises ModelError where one is no whole bundle, InputError where their networks differ in more than weights, or
    where no weight is called so.
    """
    for folder in (first, second):
        verify(folder)
    with replacing_folder(out) as part:
        shutil.copytree(second, part, dirs_exist_ok=True)
        names = [
            name for name in ("denoiser", GUIDED_DECODER) if has_component(first, name) or has_component(second, name)
        ]
        changed = [_average_file(first / name, second / name, part / name, share, only) for name in names]
        if not sum(changed):
            raise InputError(
                f"no weight is called {only}...; they begin with {' or '.join(f'{name}.' for name in names)}"
            )
        seal(part, read_config(part))


def _average_file(first: Path, second: Path, out: Path, share: float, only: str) -> int:
    """So many of a network's weights, in the folders of it, are averaged."""
    if not ((first / WEIGHTS).is_file() and (second / WEIGHTS).is_file()):
        raise InputError(f"{first} or {second} is missing; average bundles of the same networks")
    ours, theirs = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    if {key: value.shape for key, value in ours.items()} != {key: value.shape for key, value in theirs.items()}:
        raise InputError(f"{first} and {second} differ in more than weights; average bundles of one size")
    chosen = [key for key in theirs if f"{second.name}.{key}".startswith(only)]
    mean = {key: torch.lerp(theirs[key].float(), ours[key].float(), share).to(theirs[key].dtype) for key in chosen}
    save_file(theirs | mean, out / WEIGHTS, metadata={"format": "pt"})
    return len(chosen)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for argument, meaning in (("first", "a bundle"), ("second", "another one"), ("out", "folder of the new bundle")):
        parser.add_argument(argument, type=Path, help=meaning)
    parser.add_argument("--share", type=float, default=0.5, help="of the first bundle's weights in the mean (0.5)")
    parser.add_argument("--only", metavar="NAME", default="", help="of the weights alone whose names begin so (all)")
    try:
        average(**vars(parser.parse_args()))
    except DiffMaError as problem:
        parser.exit(2, f"{problem}\n")
