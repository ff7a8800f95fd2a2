"""``diffma evaluate`` without an experiment: any bundle on pairs of pictures, on CTs alone, on rendered heads."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from DiffMaCore.cli.main import main
from DiffMaCore.errors import InputError
from DiffMaCore.imaging.checks import with_voxels
from DiffMaCore.imaging.phantom import Phantom, tissues
from DiffMaCore.training.evaluation.heads import WINDOW, inside_skull, judge_cts, judge_pairs, judge_phantom, read_pair
from DiffMaCore.training.evaluation.scores import LEVELS
from DiffMaCore.training.evaluation.tables import RELIABILITY, means
from DiffMaCore.training.evaluation.tables import heads_markdown as markdown
from DiffMaCore.training.evaluation.tables import write_heads as write
from Testing.images import AIR, BONE, FLUID, SIGNAL, head_images, head_labels


def _pictures() -> tuple[np.ndarray, np.ndarray]:
    """Labels of axial slices of a head at 1 mm, and its CT in a brain window."""
    y, x = np.meshgrid(np.arange(-100.0, 100), np.arange(-84.0, 84), indexing="ij")
    labels = np.stack([head_labels(np.stack([x, y, np.full_like(x, z)], -1)) for z in (-30.0, 0.0, 25.0)])
    hu = np.array([-1000, 20, 1100, 7, 37, 29])[labels] + np.random.default_rng(0).normal(0, 2, labels.shape)
    low, high = WINDOW
    return labels, np.clip((hu - low) / (high - low) * 255, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two heads and a pelvis."""
    folder = tmp_path_factory.mktemp("pairs")
    labels, ct = _pictures()
    t1 = np.array(SIGNAL["t1"], np.uint8)[labels]
    for name in ("brain_1", "brain_2", "pelvis_1"):
        np.savez(folder / f"{name}.npz", ct=ct, t1=t1)
    return folder


def _painter(modality: str = "MR T1") -> Any:
    """A stand-in for a pipeline whose MRI is a fixed function of the HU: fluid and bone dark, fat bright."""
    called: list[dict[str, Any]] = []

    def paint(image: sitk.Image, **options: Any) -> Any:
        called.append(options)
        hu = sitk.GetArrayFromImage(image).astype(np.float32)
        soft = np.interp(hu, [-10, 7, 29, 37, 60], [600, 110, 500, 310, 400])
        mr = sitk.GetImageFromArray(np.where((hu > 300) | (hu < -300), 30, soft).astype(np.float32))
        mr.CopyInformation(image)
        return SimpleNamespace(mr=mr, uncertainty=None)

    config = {"target_modality": modality, "output_range": (0.0, 1000.0), "mr_normalisation": {"method": "fixed"}}
    paint.bundle = SimpleNamespace(**config)  # type: ignore[attr-defined]
    paint.called = called  # type: ignore[attr-defined]
    paint.tells_uncertainty = lambda *_: False  # type: ignore[attr-defined]
    return paint


def test_the_inside_of_the_skull_is_found_in_pictures() -> None:
    labels, ct = _pictures()
    inside = inside_skull(ct, rim=0)
    true = labels > BONE
    assert 2 * (inside & true).sum() / (inside.sum() + true.sum()) > 0.97
    rimless = inside_skull(ct)
    assert rimless.sum() < inside.sum() and not (rimless & ~inside).any()
    assert not inside_skull(np.zeros((1, 64, 64), np.uint8)).any()


def test_pictures_become_a_ct_with_bone_fat_air_and_the_size_of_a_brain(pairs: Path) -> None:
    labels, _ = _pictures()
    pair = read_pair(pairs / "brain_1.npz")
    image = pair.image()
    hu = sitk.GetArrayFromImage(image)
    assert np.median(hu[labels == BONE]) == 900 and hu[0, 0, 0] == -1024
    assert np.median(hu[labels == FLUID]) == pytest.approx(7, abs=1)
    assert image.GetSpacing()[0] == pytest.approx(165 / 151, rel=0.02)  # in z = 0 its brain is 151 mm long
    assert pair.image(pixel_mm=0.5).GetSpacing()[0] == 0.5


def test_a_painter_of_tissues_is_better_than_the_ct_itself(pairs: Path) -> None:
    painter = _painter()
    found = judge_pairs(painter, [pairs], num_inference_steps=3)
    assert list(found["cases"]) == ["brain_1", "brain_2"] and found["contrast"] == "t1"
    assert painter.called == [{"num_inference_steps": 3}] * 2
    case = found["cases"]["brain_1"]
    assert case["slices"] == 3 and case["mr"]["correlation"] > 0.9 > case["ct"]["correlation"]
    assert 28 < case["brain_hu"] < 38
    wrong = judge_pairs(painter, [pairs], window=(-30.0, 80.0))
    assert wrong["cases"]["brain_1"]["brain_hu"] < 25 and wrong["window"] == [-30, 80]
    assert case["mr"]["ssim"] > case["ct"]["ssim"] and case["mr"]["psnr"] > case["ct"]["psnr"]


def test_pairs_that_cannot_be_judged_are_named(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no array t2"):
        judge_pairs(_painter("MR T2"), [pairs])
    with pytest.raises(InputError, match=r"holds no \.npz"):
        judge_pairs(_painter(), [tmp_path])
    np.savez(tmp_path / "a.npz", ct=np.zeros((2, 64, 64), np.uint8), t1=np.zeros((2, 64, 64), np.uint8))
    with pytest.raises(InputError, match="closed skull"):
        judge_pairs(_painter(), [tmp_path])
    np.savez(tmp_path / "a.npz", ct=np.zeros((2, 64, 64)), t1=np.zeros((2, 64, 64)))
    with pytest.raises(InputError, match="uint8"):
        judge_pairs(_painter(), [tmp_path])


def test_cts_are_judged_and_one_without_a_skull_stops_no_other(tmp_path: Path) -> None:
    ct, _ = head_images()
    sitk.WriteImage(ct, str(tmp_path / "a.nii.gz"))
    sitk.WriteImage(sitk.Minimum(ct, 100.0), str(tmp_path / "b.nii.gz"))
    found = judge_cts(_painter(), [tmp_path], slices=(0, 99))["cases"]
    assert found["a"]["csf_dice"] > 0.85 and found["a"]["verdict"] == "the MR follows the CT"
    assert "no skull" in found["b"]["problem"]
    assert means(found, "csf_dice", "absent") == {"csf_dice": found["a"]["csf_dice"], "absent": None}
    text = markdown({"options": {}, "bundles": {"p": {"cts": {"contrast": "t1", "cases": found}}}})
    assert "| a |" in text and "no skull" in text


def _phantom() -> Phantom:
    """The head of ellipsoids as if it had been rendered."""
    ct, _ = head_images(size=(60, 72, 40), spacing=(2.7, 2.7, 4))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in ct.GetSize()), indexing="ij"), -1)
    labels = head_labels(index * ct.GetSpacing() + ct.GetOrigin()).transpose(2, 1, 0)
    tissue = np.array([0, 200, 200, 200, tissues.CORTEX.label, tissues.WHITE.label], np.uint8)
    t1 = np.array([0, 600, 30, 110, 310, 500], np.float32)[labels]
    return Phantom(
        sitk.GetArrayFromImage(ct), {"t1": t1}, tissue[labels], labels > AIR, labels > FLUID, ct.GetSpacing(), "any"
    )


def test_a_head_whose_truth_is_known_is_compared_with_it() -> None:
    phantom = _phantom()
    found = judge_phantom(_painter(), phantom, "t1")
    assert 0.5 < found["ssim"] < 1 and found["psnr"] > 15
    assert 0.9 < found["auc"] < found["auc_truth"] and 0.5 < found["contrast"] < 1  # noise blurs it
    assert "uncertainty" not in found


def test_the_truth_itself_is_perfect_and_its_deviation_is_judged() -> None:
    phantom = _phantom()

    def knows(image: sitk.Image, **options: Any) -> Any:
        mr = phantom.mr_image("t1")
        return SimpleNamespace(mr=mr, uncertainty=mr * 0 + 5 if options.get("samples") else None)

    knows.bundle = _painter().bundle  # type: ignore[attr-defined]
    knows.tells_uncertainty = lambda *_: False  # type: ignore[attr-defined]
    perfect = judge_phantom(knows, phantom, "t1", samples=4)
    assert perfect["ssim"] == pytest.approx(1) and perfect["contrast"] == pytest.approx(1)
    assert perfect["slice_change"] == pytest.approx(1) and perfect["uncertainty"]["cover"] == 1


def test_the_cover_of_deviations_is_drawn_where_there_are_any(tmp_path: Path) -> None:
    phantom = _phantom()
    rng = np.random.default_rng(0)
    wrong = sitk.GetArrayFromImage(phantom.mr_image("t1")) + rng.normal(0, 50, phantom.body.shape).astype(np.float32)

    def unsure(image: sitk.Image, **options: Any) -> Any:
        mr = with_voxels(wrong, image)
        return SimpleNamespace(mr=mr, uncertainty=mr * 0 + 50 if options["uncertainty"] else None)

    unsure.bundle = _painter().bundle  # type: ignore[attr-defined]
    for folder in ("plain", "told"):
        unsure.tells_uncertainty = lambda *_, told=folder == "told": told  # type: ignore[attr-defined]
        case, options = judge_phantom(unsure, phantom, "t1"), {}
        results = {"options": options, "bundles": {"it": {"heads": {"contrast": "t1", "cases": {"a 1": case}}}}}
        write(results, tmp_path / folder)
    assert case["uncertainty"]["covers"] == pytest.approx(LEVELS, abs=0.02)
    assert not (tmp_path / "plain" / RELIABILITY).exists()
    with Image.open(tmp_path / "told" / RELIABILITY) as picture:
        assert picture.format == "PNG" and len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_the_command_judges_a_bundle_and_writes_tables(
    pairs: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct, _ = head_images(size=(54, 66, 30), spacing=(3, 3, 6))
    sitk.WriteImage(ct, str(tmp_path / "head.nii.gz"))
    words = ["evaluate", "--bundle", str(tiny_bundle), "--pairs", str(pairs), "--cts", str(tmp_path / "head.nii.gz")]
    assert main([*words, "--steps", "1", "--out", str(tmp_path / "judged"), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    results = json.loads((tmp_path / "judged" / "results.json").read_text())
    entry = results["bundles"][str(tiny_bundle)]
    assert results["options"] == {"num_inference_steps": 1} and len(entry["pairs"]["cases"]) == 2
    assert entry["cts"]["cases"]["head"]["verdict"] == "the MR does NOT follow the CT"
    table = (tmp_path / "judged" / "table.md").read_text()
    assert "| **mean** |" in table and table.strip() in out
    assert "read as 0 to 80 HU" in table and "Brain (HU)" in table


def test_the_command_says_what_it_needs(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, wanted in (
        (["--bundle", "demo"], "--config"),
        (["--pairs", str(pairs)], "--bundle"),
        (["--config", "x.yaml", "--pairs", str(pairs)], "--config"),
    ):
        assert main(["evaluate", *words]) == 2
        assert wanted in capsys.readouterr().err
