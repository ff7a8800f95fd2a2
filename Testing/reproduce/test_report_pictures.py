"""The pictures of the report show what they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from Training.reproduce.figures import picture_grid, plot_calibration, plot_curves, smooth
from Training.reproduce.slices import read_samples


def test_a_grid_shows_every_slice_in_its_row_and_column(tmp_path: Path) -> None:
    greys = [[0, 90], [180, 255]]
    tiles = [[np.full((8, 8), grey, np.uint8) for grey in row] for row in greys]
    path = picture_grid(tiles, ["", ""], ["", ""], tmp_path / "grid.png", side=1.0)
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("L"), float)
    height, width = pixels.shape
    for r in range(2):
        for c in range(2):
            y, x = round(height * (0.25 + 0.5 * r)), round(width * (0.25 + 0.5 * c))
            assert abs(pixels[y, x] - greys[r][c]) < 3


def test_titles_make_room_for_themselves_and_an_empty_place_stays_light(tmp_path: Path) -> None:
    tiles = [[np.zeros((8, 8), np.uint8), None]]
    with Image.open(picture_grid(tiles, ["", ""], [""], tmp_path / "plain.png")) as plain:
        plain_size, pixels = plain.size, np.asarray(plain.convert("L"))
    with Image.open(picture_grid(tiles, ["CT", "MR"], ["case a"], tmp_path / "titled.png", gaps=(1,))) as titled:
        assert titled.width > plain_size[0] and titled.height > plain_size[1]
    assert pixels[10, plain_size[0] - 30] > 200 and pixels[10, 30] < 5


def test_each_systems_curve_is_drawn_in_its_colour_and_an_empty_panel_is_left_out(tmp_path: Path) -> None:
    curves = {"diffma": ([0, 10, 20], [1.0, 0.5, 0.2]), "dit": ([0, 10, 20], [1.0, 0.8, 0.7])}
    titles = {"diffma": "DiffMa", "dit": "DiT", "vim": "ViM"}
    one = plot_curves({"A": ("loss", curves), "B": ("loss", {})}, titles, tmp_path / "one.png")
    two = plot_curves({"A": ("loss", curves), "B": ("PSNR", curves)}, titles, tmp_path / "two.png")
    with Image.open(one) as small, Image.open(two) as large:
        assert large.width == 2 * small.width
        colours = {tuple(pixel) for pixel in np.asarray(small.convert("RGB")).reshape(-1, 3)}
    assert (0xC2, 0x41, 0x0C) in colours and (0x7C, 0x3A, 0xED) not in colours


def test_calibration_is_drawn_against_the_diagonal(tmp_path: Path) -> None:
    curves = {"diffma": ([0.1, 0.2], [0.1, 0.3]), "bundle-x": ([0.1, 0.2], [0.2, 0.2])}
    path = plot_calibration(curves, {"diffma": "DiffMa", "bundle-x": "a bundle"}, tmp_path / "calibration.png")
    with Image.open(path) as opened:
        colours = {tuple(pixel) for pixel in np.asarray(opened.convert("RGB")).reshape(-1, 3)}
    assert {(0xC2, 0x41, 0x0C), (0x64, 0x74, 0x8B)} <= colours


def test_a_running_mean_keeps_a_straight_line_and_what_is_short() -> None:
    steps = list(range(100))
    middle, mean = smooth(steps, [2.0 * step for step in steps])
    assert len(mean) == 91 and np.allclose(mean, 2 * np.array(middle))
    assert smooth([1, 2], [5.0, 3.0]) == ([1, 2], [5, 3])


def test_samples_are_read_by_step_and_other_files_left_alone(tmp_path: Path) -> None:
    for name in ("step_00000020", "step_00000003", "other"):
        np.savez(tmp_path / f"{name}.npz", generated=np.zeros((1, 2, 2)))
    assert list(read_samples(tmp_path)) == [3, 20]
