"""Entry points of the Numba kernels, compiled once and kept on disk where that is possible."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Numba's form of an entry point: compiled at its first call, without the interpreter lock, and cached.

    Where neither the package's nor the user's cache folder can be written, it is compiled in every process.
    """
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


def source_digest(*modules: ModuleType) -> int:
    """Checksum of the modules' source files, for an entry point's last argument.

    Numba's cache notices a change only in the file of the cached function and in the types of its arguments, which hold
    the values of those that are left to their defaults: so it notices one in the files its kernels come from as well.
    """
    sources = (Path(str(module.__file__)).read_bytes() for module in modules)
    return int.from_bytes(hashlib.sha256(b"".join(sources)).digest()[:7], "big")
