"""What a first run on this machine will take, roughly: by the model's size and the CPU's threads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SETUP = 6.0  # seconds for Python, PyTorch, the weights and the files
_BYTES = 1.5e9  # of Python, PyTorch and what they load
_BLOCK = 1.7e-4  # seconds of one core for a block and a token 512 wide; L/2, 196 tokens: 0.53 s an evaluation
_DECODING = {True: 8.0, False: 0.1}  # seconds of one core for a slice's VAE, Stable Diffusion's or a small one
_BLOCKS = {"S": 4, "B": 8, "L": 16, "XL": 28, "XXL": 56}
_TOKENS = {"2": 196, "4": 49, "7": 16}


@dataclass(frozen=True)
class Rough:
    """Seconds to begin, for a slice, and for one evaluation of a slice; and bytes of memory."""

    begin: float
    of_slice: float
    of_evaluation: float
    memory_bytes: int


def rough(facts: dict[str, Any] | None, model: str, device: str) -> Rough | None:
    """What is guessed before a model's first run; None where nobody knows.

    Args:
        facts: what the child reported of the machine.
        model: an installed model's name.
        device: what the model would run on; only a CPU's speed follows from its threads.
    """
    facts = facts or {}
    entry = next((each for each in facts.get("models") or () if each.get("name") == model), None)
    cpu: Mapping[str, Any] = next((each for each in facts.get("devices") or () if each.get("name") == "cpu"), {})
    threads = cpu.get("threads")
    if entry is None or not threads or device != "cpu":
        return None
    size = str(entry.get("size", ""))
    work = _blocks_and_tokens(size)
    if work is None:
        return None
    memory = int(_BYTES + 2 * (entry.get("bytes") or 0))
    return Rough(_SETUP, _DECODING[not size.startswith("custom")] / threads, _BLOCK * work / threads, memory)


def _blocks_and_tokens(size: str) -> float | None:
    """Blocks times tokens, of width 512, of "L/2" or "custom 192x6/2, latent 40"."""
    named = re.fullmatch(r"(XXL|XL|L|B|S)/([247])", size)
    if named:
        return _BLOCKS[named[1]] * _TOKENS[named[2]]
    own = re.fullmatch(r"custom (\d+)x(\d+)/(\d+), latent (\d+)", size)
    if not own:
        return None
    width, depth, patch, latent = (int(own[place]) for place in (1, 2, 3, 4))
    return depth * (latent // max(1, patch)) ** 2 * (width / 512) ** 2
