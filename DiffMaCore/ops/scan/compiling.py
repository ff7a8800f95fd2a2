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


def source_digest(*modules: ModuleType) -> str:
    """Checksum of the modules' source files.

    Numba's cache notices a change only in the file of the cached function and in its closure; an entry point
    that returns this digest brings the files its kernels come from into the closure.
    """
    sources = (Path(str(module.__file__)).read_bytes() for module in modules)
    return hashlib.sha256(b"".join(sources)).hexdigest()
