"""The fixture ``slicer_host``: import it in a ``conftest.py``."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def slicer_host() -> Iterator[Any]:
    """A running stand-in Slicer; it fails the test for an error in a slot and for a dialog without an answer."""
    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    from .host import Host

    host = Host()
    try:
        yield host
    finally:
        problems = host.end()
    assert not problems, "; ".join(problems)
