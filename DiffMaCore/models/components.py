"""Parts from elsewhere: Stable Diffusion's VAE, BiomedCLIP's visual tower, and a small decoder to the VAE."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import diffusers
from safetensors import SafetensorError

from DiffMaCore.bundles.checking import WEIGHTS_FILE, read_component
from DiffMaCore.bundles.config import SMALL_DECODER
from DiffMaCore.bundles.hub import byte_bar
from DiffMaCore.bundles.manifest import Progress
from DiffMaCore.errors import ModelError, OutputError, loading
from DiffMaCore.files import is_full
from DiffMaCore.models.image_encoder import CONFIG_FILE, ImageEncoder
from DiffMaCore.models.image_encoder import WEIGHTS as IMAGE_ENCODER_WEIGHTS
from DiffMaCore.models.patch_autoencoder import PatchAutoencoder

_DAMAGED = (
    OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError, UnpicklingError, BadZipFile, SafetensorError,
)  # fmt: skip
"""What json, torch, safetensors, diffusers and open_clip raise on damaged files."""


@dataclass(frozen=True)
class Part:
    """A component from elsewhere: where it is from, how it is loaded, and the files it needs."""

    name: str
    hub_id: str
    load: Callable[[Path], Any]
    config: str = "config.json"
    weights: tuple[str, ...] = (WEIGHTS_FILE, "diffusion_pytorch_model.bin")

    @property
    def option(self) -> str:
        """The command line option that names it."""
        return f"--{self.name.replace('_', '-')}"


def _load_part(name: str, folder: Path) -> Any:
    """A component of the allowed class that its ``config.json`` says; a pickle is read with weights_only."""
    chosen, _ = read_component(folder, name)
    cls = PatchAutoencoder if chosen == PatchAutoencoder.__name__ else getattr(diffusers, chosen)
    return load_network(cls, folder, name, use_safetensors=(folder / WEIGHTS_FILE).is_file())


VAE = Part("vae", "stabilityai/sd-vae-ft-ema", partial(_load_part, "vae"))
IMAGE_ENCODER = Part(
    "image_encoder",
    "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    ImageEncoder.from_open_clip,
    CONFIG_FILE,
    IMAGE_ENCODER_WEIGHTS,
)
PARTS = (VAE, IMAGE_ENCODER)
"""Those that the authors' files leave out and every bundle needs."""
SMALL = Part(SMALL_DECODER, "madebyollin/taesd", partial(_load_part, SMALL_DECODER))
"""Only ever taken where it is asked for; what is on the hub is for the latents of Stable Diffusion 1's VAE."""


def load_network(cls: Any, folder: Path, name: str, **options: Any) -> Any:
    """A network of a class of ours or diffusers' from a folder, in eval mode; ``name`` is the component's.

    Raises:
        ModelError: its files are damaged or do not fit each other.
        OutOfMemory: the memory is not enough for it.
    """
    with _as_damaged(folder, name):
        model, info = cls.from_pretrained(str(folder), local_files_only=True, output_loading_info=True, **options)
    lacking = [*info["missing_keys"], *info["mismatched_keys"]]
    if lacking:
        what = name.replace("_", " ")
        raise ModelError(f"{folder} is no usable {what}: its weights lack {lacking[0]}; fetch it again.")
    return model.eval()


@contextmanager
def _as_damaged(folder: Path, name: str) -> Iterator[None]:
    """Tell a lack of memory as such, and what damaged files raise in one sentence."""
    what = name.replace("_", " ")
    try:
        with loading(f"the {what} in {folder}"):
            yield
    except _DAMAGED as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder} cannot be loaded as {what} ({first}): fetch it again.") from error


def obtain(part: Part, given: str | None, progress: Progress | None = None) -> Any | None:
    """Load a part from the folder or hub id ``given``, else from its own hub id or the local cache of it.

    Returns None when it has to come from the hub and the hub cannot be reached.

    Raises:
        ModelError: the given folder is not such a component or its weights are damaged.
        OutputError: there is no room to keep what comes from the hub.
        OutOfMemory: the memory is not enough for it.
    """
    folder = _locate(part, given, progress)
    if folder is None:
        return None
    lacking = _lacking(part, folder)
    if lacking:
        raise ModelError(f"{folder} is no {part.name.replace('_', ' ')}: it lacks {lacking}.")
    with _as_damaged(folder, part.name), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of pickles that it refuses
        return part.load(folder)


def _locate(part: Part, given: str | None, progress: Progress | None) -> Path | None:
    if given and Path(given).expanduser().is_dir():
        return Path(given).expanduser()
    if given and not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", given):
        raise ModelError(f"{part.option} {given} is neither a folder nor a hub id such as {part.hub_id}.")
    folder = _from_hub(part, given or part.hub_id, progress)
    return folder if folder and (given or not _lacking(part, folder)) else None


def _lacking(part: Part, folder: Path) -> str | None:
    """The first file of a part that a folder does not have."""
    if not (folder / part.config).is_file():
        return part.config
    return None if any((folder / name).is_file() for name in part.weights) else " and ".join(part.weights)


def _from_hub(part: Part, hub_id: str, progress: Progress | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    wanted = [part.config, *part.weights]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, tqdm_class=byte_bar(progress, hub_id)))
    # offline, refused, unknown, broken off: they mean the same to the caller; hf_xet raises RuntimeError
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and is_full(error):
            raise OutputError(
                f"there is no room to keep {hub_id} ({error.strerror}); free some or set HF_HOME"
            ) from error
        return None
