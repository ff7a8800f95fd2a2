"""What is done before and after a conversion: check, batch, comparison, export, phantom, machine and models."""

from __future__ import annotations

import json
import shutil
import venv
from importlib.util import find_spec

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from DiffMaSlicerLib.jobs.history import History, words_for_seconds
from DiffMaSlicerLib.jobs.job import JobState
from logic_tools import ct, logic, make_ct, matrix_of, volumes, voxels  # noqa: F401
from test_logic_conversion import poll_to_the_end

pytestmark = pytest.mark.usefixtures("warm")


def result_of(job):
    """Poll to the end; returns the result."""
    poll_to_the_end(job)
    assert job.state is JobState.DONE, job.error
    return job.result


def test_first_sight_tells_size_range_and_what_is_wrong(logic, ct):  # noqa: F811
    import slicer

    facts = logic.describe(ct)
    assert facts.size == (48, 40, 12) and facts.slices == 12 and facts.problem == "" and facts.range == (-1000.0, 600.0)
    assert "48 x 40 x 12 voxels of 4.4 x 4.1 x 5.3 mm" in facts.sentence
    values = voxels(ct).astype(np.float32)
    values[5, 20, 20] = np.nan
    slicer.util.updateVolumeFromArray(ct, values)
    assert logic.describe(ct).nan_count == 1 and "NaN" in logic.describe(ct).notes[0]
    slicer.util.updateVolumeFromArray(ct, np.maximum(voxels(ct), 0))
    assert "no air" in logic.describe(ct).problem
    assert "No volume" in logic.describe(None).problem
    vectors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode")
    slicer.util.updateVolumeFromArray(vectors, np.zeros((4, 5, 6, 3), np.float32))
    assert "3 values" in logic.describe(vectors).dimension_problem
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert "no voxels" in logic.describe(empty).problem


def test_the_childs_check_and_the_conversion_share_one_file(logic, ct, tiny_bundle):  # noqa: F811
    facts = result_of(logic.check(ct, str(tiny_bundle)))
    assert facts["looks_like_ct"] and facts["size"] == [48, 40, 12] and len(facts["body_mm"]) == 3
    written = [export.path for export in logic._files._exports.values()]
    assert len(written) == 1 and written[0].is_file()
    assert ct.GetName() not in written[0].name, "no patient's name in a file name"


def test_a_batch_converts_nodes_and_files_and_a_bad_one_does_not_stop_it(logic, ct, tiny_bundle, tmp_path):  # noqa: F811
    import slicer

    bad = make_ct("Miller^Anna")
    slicer.util.updateVolumeFromArray(bad, np.abs(voxels(bad)))
    written = tmp_path / "in" / "third.nrrd"
    written.parent.mkdir()
    image = sitk.GetImageFromArray(voxels(ct))
    image.SetSpacing((4.4, 4.1, 5.3))
    sitk.WriteImage(image, str(written))
    job = logic.convertBatch(
        [ct, bad, str(written)],
        str(tmp_path / "out"),
        model=str(tiny_bundle),
        mode="sample",
        steps=1,
        load=True,
        blocking=False,
    )
    items = result_of(job)
    assert [item.state for item in items] == ["done", "failed", "done"] and "CT" in items[1].reason
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["CT_of_somebody_synthetic_mr.nii.gz", "third_synthetic_mr.nii.gz"]
    assert items[0].outputNode.GetAttribute("DiffMa.synthetic") == "1"
    assert items[0].outputNode.GetAttribute("DiffMa.mode") == "sample"
    assert np.allclose(matrix_of(items[0].outputNode), matrix_of(ct), atol=1e-4)
    text = "\n".join(job.log)
    assert "Miller" not in text and "somebody" not in text and str(tmp_path / "in") not in text


def test_a_batch_of_nothing_and_one_where_all_fail_are_failures(logic, tmp_path):  # noqa: F811
    with pytest.raises(RuntimeError, match="nothing to convert"):
        logic.convertBatch([], str(tmp_path))
    with pytest.raises(RuntimeError, match="does not exist"):
        logic.convertBatch(str(tmp_path / "none"), str(tmp_path / "out"))


def synthetic(name: str = "MR"):
    """A node as a conversion leaves it."""
    import slicer
    from DiffMaSlicerLib.mrml.provenance import write_provenance

    node = make_ct(name)
    slicer.util.updateVolumeFromArray(node, voxels(node).astype(np.float32) + 1000)
    write_provenance(node, {"model": "tiny", "model_title": "tiny", "model_sha256": "0" * 64, "steps": 3, "seed": 1})
    return node


def test_a_comparison_gives_numbers_and_a_map_on_the_same_grid(logic, ct):  # noqa: F811
    mr, true = synthetic(), synthetic("true MR")
    job = logic.compare(mr, true, ct, blocking=False)
    metrics = result_of(job)
    assert metrics["ssim"] == pytest.approx(1) and metrics["mae"] == pytest.approx(0, abs=1e-6)
    assert metrics["body_voxels"] > 0
    difference = job.differenceNode
    assert np.abs(voxels(difference)).max() < 1e-5 and np.array_equal(matrix_of(difference), matrix_of(mr))
    assert mr.GetNodeReference("DiffMa.difference") is difference
    with pytest.raises(RuntimeError, match="itself"):
        logic.compare(mr, mr)


def test_an_exported_series_says_that_it_is_synthetic_and_that_it_is_anonymous(logic, tmp_path):  # noqa: F811
    told = []
    mr = synthetic("Miller^Anna MR")
    result = logic.exportDicom(mr, tmp_path / "series", listener=lambda job, what: told.append(job))
    files = sorted((tmp_path / "series").iterdir())
    assert len(files) == 12 and result["anonymous"] and any("anonymous" in text for text in told[-1].warnings)
    header = pydicom.dcmread(files[0])
    assert header.Modality == "MR" and list(header.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert "Miller" not in str(header)
    with pytest.raises(RuntimeError, match="not a synthetic MR"):
        logic.exportDicom(make_ct(), tmp_path / "other")


def test_the_phantom_comes_as_ct_and_mr_on_one_grid(logic):  # noqa: F811
    head, true = logic.makePhantom(seed=2)
    assert voxels(head).min() < -900 and voxels(head).shape == voxels(true).shape
    assert np.array_equal(matrix_of(head), matrix_of(true)) and logic.describe(head).problem == ""
    assert volumes() == ["Head phantom CT", "Head phantom MR"]


def test_the_machine_and_its_models_are_asked_imported_read_and_moved(logic, tiny_bundle, tmp_path):  # noqa: F811
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    logic.settings.models_folder = str(home)
    archive = shutil.make_archive(str(tmp_path / "tiny"), "zip", tiny_bundle)
    result_of(logic.importBundle(archive, "mine"))
    card = result_of(logic.modelCard("mine"))
    assert "tiny random networks" in card
    assert result_of(logic.moveModels(str(elsewhere)))["home"] == str(elsewhere) == logic.settings.models_folder
    facts = result_of(logic.machine())
    assert {"demo", "mine"} <= {model["name"] for model in facts["models"]} and facts["home"] == str(elsewhere)
    assert logic.machineFacts is facts and any(s["name"] == "dpm++" for s in facts["schedulers"])
    assert logic.estimate(voxels=10).free_bytes > 0


def test_the_packages_of_the_interpreter_are_told_one_by_one(logic):  # noqa: F811
    facts = result_of(logic.checkPackages())
    torch = next(entry for entry in facts["packages"] if entry["name"] == "torch")
    assert torch["ok"] and torch["installed"] and facts["missing"] == [] and "Nothing" in facts["size"]


def test_estimates_are_learnt_from_runs_and_warn_when_memory_is_short(tmp_path):
    history = History(tmp_path / "deep" / "runs.json")
    asked = {"steps": 10, "samples": 2, "slices": 30, "voxels": 1000}
    assert history.estimate("demo", "cpu", **asked, free_bytes=None).seconds is None
    for synthesis in (100.0, 50.0, 1000.0):
        history.record("demo", "cpu", setup=5, synthesis=synthesis, work=100, voxels=1000, peak_bytes=2_000_000_000)
    found = history.estimate("demo", "cpu", **asked, free_bytes=1_000_000_000)
    assert found.seconds == pytest.approx(5 + 600) and found.runs == 3 and found.enough_memory is False
    assert "10 min" in found.sentence and "2.0 GB" in found.sentence and "more than is free" in found.sentence
    assert set(json.loads((tmp_path / "deep" / "runs.json").read_text())) == {"demo|cpu"}
    history.record("demo", "cpu", noise=False, setup=5, synthesis=20, work=10, voxels=1000, peak_bytes=None)
    assert history.estimate("demo", "cpu", mode="mean", **{**asked, "samples": 1}, free_bytes=None).seconds == 5 + 60
    assert history.estimate("demo", "cpu", mode="mean", **asked, free_bytes=None).seconds == pytest.approx(5 + 630)
    (tmp_path / "deep" / "runs.json").write_text('{"demo|cpu": [{"setup": "x"}, 3], "a": 5')
    assert history.estimate("demo", "cpu", **asked, free_bytes=None).runs == 0
    assert [words_for_seconds(s) for s in (0.2, 40, 200, 9000)] == ["1 s", "40 s", "3 min", "2 h 30 min"]


def test_every_control_survives_saving_and_loading_the_scene(logic, tmp_path):  # noqa: F811
    import slicer

    node = logic.getParameterNode()
    chosen = {
        "mode": "mean",
        "steps": 77,
        "scheduler": "ddim",
        "seed": 5,
        "samples": 3,
        "limitSlices": True,
        "lastSlice": 9,
    }
    for name, value in chosen.items():
        setattr(node, name, value)
    node.inputVolume = make_ct()
    slicer.mrmlScene.SetSaveToXMLString(1)
    slicer.mrmlScene.Commit()
    text = slicer.mrmlScene.GetSceneXMLString()
    slicer.mrmlScene.Clear(1)
    slicer.mrmlScene.SetLoadFromXMLString(1)
    slicer.mrmlScene.SetSceneXMLString(text)
    slicer.mrmlScene.Import()
    again = logic.getParameterNode()
    assert {name: getattr(again, name) for name in chosen} == chosen
    assert again.inputVolume.GetName() == "CT of somebody"
    with pytest.raises(ValueError, match="range"):
        again.steps = 0


def test_an_interpreter_without_packages_says_what_it_lacks_and_why_it_cannot_get_it(logic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as in a hospital without network
    venv.create(tmp_path / "bare")
    pip, site = find_spec("pip"), next((tmp_path / "bare").rglob("site-packages"))
    shutil.copytree(pip.submodule_search_locations[0], site / "pip")  # in a tenth of the time of ensurepip
    logic.settings.interpreter = str(next((tmp_path / "bare").glob("[bS]*/python*")))
    facts = result_of(logic.checkPackages())
    assert not facts["ok"] and {"torch", "SimpleITK"} <= set(facts["missing"]) and "GB" in facts["size"]
    job = logic.installPackages()
    poll_to_the_end(job)
    assert job.state is JobState.FAILED and job.error.kind == "Packages" and "pip" in job.error.message
    assert any("No matching distribution" in line for line in job.log) and "default build" in job.warnings[0]
    with pytest.raises(RuntimeError, match="Install packages"):
        logic.convert(make_ct(), steps=1)
