"""Fresh renderings: what a row is, who renders it, and what is told when nobody does any more."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from DiffMaCore.errors import TrainingError
from DiffMaCore.training import fresh
from DiffMaCore.training.batches import Order
from DiffMaCore.training.fresh import AHEAD, FreshSlices, FreshSpec, VolumeMaker, volume_file
from Testing.training.heads_run import heads_data
from Testing.warm import WARM

KEYS = ("source", "target", "body", "ct_pixels", "contrast")
ROWS = [0, 5, 17, 30]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """A training begins with two volumes, and the process beside it has imported everything already."""
    patch = pytest.MonkeyPatch()
    patch.setattr(fresh, "_FIRST", 2)
    patch.setattr(multiprocessing, "get_context", lambda method=None: WARM)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fresh")


@pytest.fixture(scope="module")
def spec(root: Path) -> FreshSpec:
    return FreshSpec(heads_data(root), seed=0, folder=root / "volumes" / "one", parts=None)


@pytest.fixture(scope="module")
def rendered(spec: FreshSpec) -> FreshSpec:
    """The same with its first volumes there, made in this process."""
    spec.folder.mkdir(parents=True)
    maker = VolumeMaker(spec)
    for newest in range(7):
        while maker.make_next(newest):
            pass
    return spec


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch):
    """Rows of volumes that are there; nothing is rendered beside."""
    monkeypatch.setenv("RANK", "1")
    return lambda spec, **options: FreshSlices(spec, KEYS, **options)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_row_is_a_slice_of_a_rendered_head_as_prepared_slices_are(rendered: FreshSpec, reader) -> None:
    batch = reader(rendered).batch(ROWS)
    assert {key: tuple(value.shape[1:]) for key, value in batch.items()} == {
        "row": (),
        "source": (32, 32),
        "target": (32, 32),
        "body": (32, 32),
        "ct_pixels": (9, 32, 32),
        "contrast": (),
    }
    assert batch["source"].min() < -900 and batch["source"].max() > 300
    assert -1 <= batch["target"].min() < batch["target"].max() <= 1
    assert ((batch["ct_pixels"] >= -1) & (batch["ct_pixels"] <= 1)).all()
    assert set(batch["contrast"].tolist()) <= {0, 1}


def test_a_row_is_a_function_of_the_seed_and_its_number(rendered: FreshSpec, reader) -> None:
    together = reader(rendered).batch(ROWS)
    backwards = reader(rendered).batch(ROWS[::-1])
    assert same(together, {key: value.flip(0) for key, value in backwards.items()})
    single = reader(rendered).batch([ROWS[2]])
    assert all(torch.equal(single[key][0], together[key][2]) for key in KEYS)
    other = reader(replace(rendered, seed=1)).batch(ROWS)
    assert not same(together, other)


def test_a_training_that_goes_on_sees_the_rows_it_would_have_seen(rendered: FreshSpec, reader) -> None:
    order = Order(None, 4, 0)
    unbroken, gone_on = reader(rendered), reader(rendered)
    batches = [unbroken.batch(order.batch(step)) for step in range(6)]
    assert all(same(gone_on.batch(order.batch(step)), batches[step]) for step in (4, 5))
    assert len({int(row) for batch in batches for row in batch["row"]}) == 24


def test_what_is_drawn_from_moves_on_and_volumes_are_drawn_from_the_newest_alone(rendered: FreshSpec, reader) -> None:
    rows = reader(rendered)
    volumes = [int(rows.where(row).split()[2].rstrip(",")) for row in range(60)]
    assert min(volumes) == 0 and max(volumes) == 5
    assert all(rows._newest(row) - volume < 2 for row, volume in enumerate(volumes))
    assert {rows.where(row).split()[3] for row in range(60)} == {"t1,", "t2,"}


def test_the_contrasts_that_are_asked_for_are_drawn_alone(rendered: FreshSpec, reader) -> None:
    assert reader(rendered, contrasts=(1,)).batch(ROWS)["contrast"].tolist() == [1] * 4


def test_volumes_that_are_left_behind_are_removed(rendered: FreshSpec, tmp_path: Path) -> None:
    spec = replace(rendered, folder=rendered.folder.with_name("cleared"))
    spec.folder.mkdir()
    old = volume_file(spec.folder, 0)
    old.write_bytes(b"read long ago")
    newest = 12
    for volume in range(newest - AHEAD - 1, newest):
        volume_file(spec.folder, volume).write_bytes(b"there already")
    assert VolumeMaker(spec).make_next(newest)
    assert not old.exists() and volume_file(spec.folder, newest).is_file()


def test_a_quarter_of_the_volumes_is_of_heads_with_a_real_t1(rendered: FreshSpec, tmp_path: Path, monkeypatch) -> None:
    for name in ("head_a", "head_b", "head_c", "t1/head_c"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    drawn = []
    monkeypatch.setattr(fresh, "load_head", lambda path, cache: path.name)
    monkeypatch.setattr(fresh, "render_head", lambda head, *others: drawn.append(head))
    heads = rendered.data.heads
    assert heads is not None
    spec = replace(rendered, data=replace(rendered.data, heads=replace(heads, folder=str(tmp_path))))
    maker = VolumeMaker(spec)
    for volume in range(400):
        maker.render(volume)
    shares = [drawn.count(f"head_{each}.nii.gz") / 400 for each in "abc"]
    assert shares == pytest.approx([0.375, 0.375, 0.25], abs=0.06)


def test_the_process_beside_makes_the_same_and_its_end_is_told(rendered: FreshSpec, reader, monkeypatch) -> None:
    expected = reader(rendered).batch(ROWS[:2])
    monkeypatch.setenv("RANK", "0")
    spec = replace(rendered, folder=rendered.folder.with_name("beside"))
    rows = FreshSlices(spec, KEYS)
    try:
        assert same(rows.batch(ROWS[:2]), expected)
        assert rows._renderer is not None
        process = rows._renderer._process
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with pytest.raises(TrainingError, match=r"the process that renders heads ended \(without a word\)"):
            rows.batch([10_000])
    finally:
        rows.close()


def test_why_it_ended_is_told_in_one_sentence(rendered: FreshSpec, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "0")
    heads = tmp_path / "heads"
    heads.mkdir()
    (heads / "head_99.nii.gz").write_bytes(b"no image")
    data = rendered.data
    assert data.heads is not None
    spec = FreshSpec(replace(data, heads=replace(data.heads, folder=str(heads))), 0, tmp_path / "volumes" / "x", None)
    rows = FreshSlices(spec, KEYS)
    try:
        with pytest.raises(TrainingError) as caught:
            rows.batch([0])
    finally:
        rows.close()
    message = str(caught.value)
    assert "\n" not in message and "the process that renders heads ended (" in message and "problem.txt" in message
    assert "without a word" not in message
    assert "head_99" in (spec.folder / "problem.txt").read_text()
