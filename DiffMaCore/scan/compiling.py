"""Entry points of the Numba kernels, compiled once and kept on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
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
