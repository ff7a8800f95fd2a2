"""What another renderer paints is what its table says, of every label there is."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.imaging.phantom import tissues
from Testing.another_renderer import FAT, LOOKS, SPACING, paint, scanned


def test_its_table_has_every_label_once() -> None:
    labels = [label for names in LOOKS for label in names]
    assert len(labels) == len(set(labels))
    assert set(labels) == set(tissues.SOURCE_LABELS)


def test_skin_is_fat_below_two_millimetres_only_where_that_is_wanted() -> None:
    labels = np.zeros((16, 16, 16), int)
    labels[1:-1, 1:-1, 1:-1] = 511
    labels[8, 8, 8] = 2
    for fat in (True, False):
        ct, t1 = paint(labels, fat)
        assert (ct[0, 0, 0], ct[8, 8, 1], ct[8, 8, 8], t1[8, 8, 8]) == (-1000, 35, 28, 160)
        assert (ct[8, 8, 4], t1[8, 8, 4]) == (FAT if fat else (35, 114))


def test_a_scan_covers_the_same_millimetres() -> None:
    volume = np.zeros((30, 28, 28), np.float32)
    volume[15:] = 100
    image = scanned(volume)
    assert image.GetSpacing() == SPACING and image.GetSize() == (20, 20, 10)
    values = sitk.GetArrayFromImage(image)[:, 10, 10]
    assert values[:4] == pytest.approx(0, abs=0.1) and values[-4:] == pytest.approx(100, abs=0.1)
