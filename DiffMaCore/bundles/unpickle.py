"""The authors' weight files in, tensors out, without running what a pickle may hold."""

from __future__ import annotations

import argparse
import io
import pickletools
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from DiffMaCore.errors import ModelError

Weights = Literal["ema", "model"]
_MOST_PICKLE = 16 << 20
_WRAPPERS = ("module.", "_orig_mod.")


def load_released_checkpoint(path: str | Path, weights: Weights = "ema") -> dict[str, Tensor]:
    """State dict out of a released checkpoint, a plain state dict, or a ``.safetensors`` file.

    The authors' checkpoints are pickles of a dict with the keys model, ema, opt and args, the last an
    ``argparse.Namespace``. They are read by torch's restricted unpickler with that one class added; nothing
    else a pickle can name is ever imported or called. Prefixes of wrappers (``module.``) are taken off.

    Args:
        path: the file.
        weights: which of a checkpoint's two weight sets; a plain state dict has only one.

    Returns:
        Tensors on the CPU by name.

    Raises:
        ModelError: the file is missing, truncated, no checkpoint, asks for anything beyond the allow-list
            (named), lacks the weights asked for, or holds NaN or infinite values (the tensor is named).
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ModelError(f"{path} does not exist or is no file: give the path of a weights file.")
    content = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_pickle(path)
    state = _choose(content, weights, path)
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{path} holds NaN or infinite values in {name}: get another checkpoint.")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is truncated or not a safetensors file ({error}): fetch it again.") from None


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # torch's, of what is refused in a sentence below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler fails in many ways on a file made to harm or cut short
        refused = _refused_global(path, str(error))
        if refused:
            raise ModelError(
                f"{path} is refused: its pickle asks for {refused}, which is not on the allow-list of"
                " weights; get the weights as safetensors or from a source you trust."
            ) from None
        raise ModelError(
            f"{path} is truncated or not a torch checkpoint ({type(error).__name__}): fetch the file again."
        ) from None


def _refused_global(path: Path, message: str) -> str | None:
    """The name a refused pickle asks for: as torch tells it, else read off the pickle without running it."""
    named = re.search(r"(?:GLOBAL|Unsupported class) ([A-Za-z_][\w.]*\.\w+)", message)
    if named:
        return named[1]
    expected = {"argparse.Namespace", "collections.OrderedDict"}
    return next((n for n in _globals(path) if n not in expected and not n.startswith("torch.")), None)


def _globals(path: Path) -> Iterator[str]:
    """Names in the pickles of a zip or legacy checkpoint, as far as they can be followed."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            stream = io.BytesIO(archive.open(name).read(_MOST_PICKLE))
    except (zipfile.BadZipFile, zlib.error, StopIteration, OSError):
        stream = io.BytesIO(path.open("rb").read(_MOST_PICKLE))
    texts: list[str] = []
    try:
        while True:  # a legacy file is several pickles in a row
            for opcode, arg, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    yield str(arg).replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL":
                    yield ".".join(texts[-2:])
                elif isinstance(arg, str):
                    texts.append(arg)
    except ValueError:
        return


def _choose(content: Any, weights: Weights, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds a {type(content).__name__}, not weights: give a checkpoint or state dict.")
    if not any(isinstance(value, Tensor) for value in content.values()):
        if not isinstance(content.get(weights), Mapping):
            other = next((key for key in ("ema", "model") if isinstance(content.get(key), Mapping)), None)
            remedy = f"use `--weights {other}`" if other else "give one of the authors' checkpoints or a state dict"
            raise ModelError(f"{path} holds no {weights!r} weights: {remedy}.")
        content = content[weights]
    state = {}
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise ModelError(f"{path} holds {key!r}, which is no tensor: give a checkpoint or a plain state dict.")
        name = str(key)
        while name.startswith(_WRAPPERS):
            name = name.split(".", 1)[1]
        state[name] = value.detach()
    if not state:
        raise ModelError(f"{path} holds no weights: give a checkpoint or a plain state dict.")
    return state
