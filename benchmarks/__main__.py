"""``python -m benchmarks``: what is measured of this software, beyond ``diffma benchmark``; in the sources alone."""

from __future__ import annotations

import argparse

from benchmarks.cli import BENCHMARKS
from DiffMaCore.cli.commands import add_commands
from DiffMaCore.cli.main import program

EXPLANATION = """\
tokens time and memory of that step at growing numbers of tokens: growth, and where DiffMa overtakes DiT. By default
       slices of 224, 448, 896 and 1792 pixels, several minutes on a CPU; --tokens 196 784 is soon done
cache  a training step on cached latents against the same step that runs VAE (Stable Diffusion's architecture), image
       encoder (ViT-B/16) and Vision Embedder on every slice again, and against one as the released code takes it: it
       encodes, and takes every Mamba's three scans one after the other; all weights random
volume a whole volume with everything that makes a GPU fast (CUDA graph, overlap, bfloat16) and with each of it off
sampling
       schedulers and numbers of steps of a trained experiment against the ODE's solution and the truth
released
       a slice by our sampling against the procedure of the authors' released code: time, and error to the ODE
roofline  a denoising step against what the machine can do: the matmuls and exponentials in it, at measured rates
decode a small decoder against Stable Diffusion's VAE, in both memory layouts; all weights random
memory what the parts of a conversion take at most, against batch, size and tokens, and what is reckoned with
processes
       several workers of a local cluster that share the volumes of one folder, against one
input  slices a second that the prepared data delivers, and how long training steps must be not to wait for them

What is compared takes turns within one process, and a ratio compares times of the same round: quote ratios, since a
busy machine changes the seconds."""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; importing it imports no torch."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare speeds within one process and state the machine.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # each module registers its command
    from benchmarks.cli import cache, decode, input, memory, processes, released, roofline, sampling, tokens, volume  # noqa: F401

    add_commands(parser, BENCHMARKS)
    return parser


if __name__ == "__main__":
    program(build_parser())
