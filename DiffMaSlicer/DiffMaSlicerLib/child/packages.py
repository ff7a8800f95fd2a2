"""Which packages the interpreter lacks, and the commands that install them.

PyTorch comes in builds for CPUs and for versions of CUDA. On Windows plain pip takes the CPU build, on Linux the
newest CUDA build (gigabytes, also without a GPU). Slicer's PyTorch extension chooses with the package
``light-the-torch``, by the driver it finds; so do we, in a child, since that extension's own function imports torch
into the Slicer process when it is done. Where that package cannot run, plain pip goes on.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from pathlib import Path

from slicer.i18n import tr as _

TORCH = ("torch", "torchvision")
CHOOSER = "light-the-torch>=0.5"
CHOOSES = sys.platform != "darwin"  # where PyTorch has one build only

# downloads in megabytes, with what they bring themselves, for the consent dialog
_MEGABYTES = {
    "torch": 200,  # the build for CPUs
    "torchvision": 8,
    "diffusers": 7,
    "accelerate": 1,
    "open_clip_torch": 6,
    "SimpleITK": 53,
    "numpy": 17,
    "scipy": 36,
    "numba": 64,
    "safetensors": 1,
    "huggingface_hub": 7,
    "pydicom": 3,
    "pillow": 7,
    "tqdm": 1,
    "psutil": 1,
    "filelock": 1,
    "Jinja2": 1,
}
_WITH_GPU = _("With an NVIDIA GPU, or where no build can be chosen, PyTorch takes about 3 GB.")


def requirements_file(library: Path) -> Path:
    """The extension's list of packages."""
    return library.parent / "Resources" / "requirements.txt"


def read_requirements(path: Path) -> list[str]:
    """Its lines without comments, such as "torch>=2.6"."""
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line]


def name_of(requirement: str) -> str:
    """The package of a requirement such as "torch>=2.6"."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def size_sentence(missing: Collection[str]) -> str:
    """How much is downloaded for packages of these names."""
    if not missing:
        return _("Nothing has to be downloaded.")
    total = sum(_MEGABYTES[name] for name in missing)
    text = _("About {megabytes} MB are downloaded.").format(megabytes=total)
    return f"{text} {_WITH_GPU}" if "torch" in missing and CHOOSES else text


def torch_commands(python: str, requirements: Path) -> list[list[str]]:
    """What installs the PyTorch build that fits this machine's driver; [] where there is one build only (macOS)."""
    if not CHOOSES:
        return []
    wanted = [line for line in read_requirements(requirements) if name_of(line) in TORCH]
    return [
        [python, "-m", "pip", "install", "--disable-pip-version-check", CHOOSER],
        [python, "-m", "light_the_torch", "install", *wanted],
    ]


def install_command(python: str, requirements: Path) -> list[str]:
    """What installs everything that is still missing."""
    return [python, "-m", "pip", "install", "--disable-pip-version-check", "-r", str(requirements)]
