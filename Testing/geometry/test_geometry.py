"""Where the CT has a landmark, the result has it too: in every format, at any place, in any orientation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed (pip install '.[test]')")

from hypothesis import HealthCheck, given, settings  # noqa: E402

from DiffMaCore import DiffMaPipeline  # noqa: E402
from Testing.geometry.cases import FORMATS, OUTPUTS, Case, cases, mark_errors, write_case  # noqa: E402
from Testing.geometry.converting import displacement, echoing  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_reader")

LEAST = 0.5
"""Voxels: a mark that is this far from its place would lie in another voxel."""
PLAIN = Case("nii", ".nii", (2.0, 2.0, 3.0), (0, 1, 2), (1, 1, 1), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), seed=1)


@pytest.fixture(scope="module")
def pipe(tiny_bundle: Path) -> Iterator[DiffMaPipeline]:
    with pytest.MonkeyPatch.context() as patch:
        yield echoing(DiffMaPipeline.from_pretrained(tiny_bundle), patch.setattr)


@settings(max_examples=15, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(case=cases)
def test_a_landmark_of_the_ct_is_at_the_same_millimetre_in_the_result(
    case: Case, pipe: DiffMaPipeline, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert displacement(pipe, case, tmp_path_factory.mktemp("case")) < LEAST


@pytest.mark.parametrize("number", range(len(FORMATS)))
def test_every_format_leads_to_others(number: int, pipe: DiffMaPipeline, tmp_path: Path) -> None:
    # oblique and left-handed, as far as the format can be
    case = Case(
        kind=FORMATS[number],
        output=OUTPUTS[number % len(OUTPUTS)],
        spacing=(2.0, 2.6, 3.3),
        axes=(2, 0, 1),
        flips=(-1, 1, 1),
        turn=(0.2, -0.4, 0.3),
        centre=(300.0, -200.0, -800.0),
        seed=number,
        tilt=(0.2, -0.3),
        gap=True,
        decimals=4,
    )
    assert displacement(pipe, case, tmp_path) < LEAST


def test_directions_of_three_decimals_are_perpendicular_enough(pipe: DiffMaPipeline, tmp_path: Path) -> None:
    turned = replace(PLAIN, kind="dicom", output=".nii.gz", axes=(1, 2, 0), turn=(0.0, -0.6, -0.6), decimals=3)
    direction = turned.direction.round(3)
    assert abs(direction[:, 0] @ direction[:, 1]) > 1e-3
    assert displacement(pipe, turned, tmp_path) < LEAST


def test_marks_are_found_where_they_are_and_missed_where_left_is_right(tmp_path: Path) -> None:
    """The measure itself: on the CT, and on one that is looked at in a mirror."""
    path = write_case(PLAIN, tmp_path)
    assert max(error for error, _ in mark_errors(PLAIN, path, 40.0).values()) < 0.1
    content = bytearray(path.read_bytes())
    content[252:256] = b"\0" * 4  # no place in space: only the voxels' order is left, and ITK takes it for LPS
    path.write_bytes(content)
    assert max(error for error, _ in mark_errors(PLAIN, path, 40.0).values()) > 2
