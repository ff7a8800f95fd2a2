"""Heads and renderings that several tests look at."""

from __future__ import annotations

import pytest

from DiffMaCore.imaging.phantom import Head, Phantom, RenderOptions, bundled_head, render

SPACING, SIZE = (2.4, 2.4, 5.0), (96, 96, 48)


@pytest.fixture(scope="session")
def head() -> Head:
    return bundled_head("head_12")


@pytest.fixture(scope="session")
def plain(head: Head) -> Phantom:
    return render(head, 3, SPACING, SIZE, options=RenderOptions.plain())
