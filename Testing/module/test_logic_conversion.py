"""A CT becomes an MR through the real child: geometry, voxels, provenance, ends of every kind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from child_tools import ROOT, goes, poll_until
from DiffMaSlicerLib.jobs.job import JobState
from logic_tools import (
    as_matrix,
    ct,  # noqa: F401
    left_over,
    logic,  # noqa: F401
    make_ct,
    matrix_of,
    volumes,
    voxels,
)

SOME = {"steps": 1, "device": "cpu"}
WARM = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def tiny(tiny_bundle):
    return str(tiny_bundle)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("step", "steps"), ("soft_mask", "softMask"), ("num_inference_steps", "steps"), ("sede", "seed")],
)
def test_a_wrong_argument_is_answered_with_the_nearest(logic, ct, wrong, right):  # noqa: F811
    with pytest.raises(TypeError, match=rf"convert\(\) has no argument '{wrong}'; did you mean '{right}'"):
        logic.convert(ct, **{wrong: 1})
    assert logic.runner.jobs == []


def test_the_guides_script_calls_what_there_is(logic, monkeypatch):  # noqa: F811
    """Every call of its Python is made, with a job that is not run."""
    import slicer

    page = (ROOT / "docs" / "slicer.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"(?s)```python\n(.*?)```", page)
    nodes = {"CTBrain": make_ct("CTBrain"), "true": make_ct("true")}
    monkeypatch.setattr(logic, "_run", lambda job, listener=None: job.result)
    monkeypatch.setattr(logic, "_start", lambda job, listener: job)
    monkeypatch.setitem(sys.modules, "DiffMaSlicer", SimpleNamespace(DiffMaSlicerLogic=lambda: logic))
    exec(compile(code, "slicer.md", "exec"), {"slicer": slicer, "trueMrNode": nodes["true"]})


def test_so_do_batches_and_estimates(logic):  # noqa: F811
    with pytest.raises(TypeError, match="did you mean 'outputFolder'"):
        logic.convertBatch([], "out", folder=1)
    with pytest.raises(TypeError, match="did you mean 'voxels'"):
        logic.estimate(voxel=1)


def test_as_many_steps_are_asked_for_as_the_command_line_takes_by_default():
    from DiffMaSlicerLib.jobs.conversion import SamplingOptions

    from DiffMaCore.diffusion.schedulers import DEFAULT_STEPS

    assert SamplingOptions().steps == DEFAULT_STEPS


def test_only_what_decides_the_image_is_asked_for():
    from DiffMaSlicerLib.jobs.conversion import SamplingOptions

    asked = {samples: SamplingOptions(mode="mean", samples=samples).arguments() for samples in (1, 2)}
    assert asked[1] == ["--model", "demo", "--samples", "1", "--mode", "mean"]
    assert {"--steps", "--scheduler", "--seed"} <= set(asked[2])
    assert "--mode" not in SamplingOptions(mode=None).arguments()
    assert SamplingOptions(decoder="small", device="cpu").arguments()[-4:] == ["--device", "cpu", "--decoder", "small"]


@pytest.mark.parametrize(
    ("modes", "wish", "chosen"),
    [
        (["mean", "sample"], None, "mean"),
        (["mean", "sample"], "sample", "sample"),
        (["sample", "mean"], "auto", "sample"),
        (["sample"], "mean", "sample"),
        (["mean"], "sample", "mean"),
        (None, "mean", "sample"),
    ],
)
def test_a_model_does_what_is_wished_where_it_can(modes, wish, chosen):
    from DiffMaSlicerLib.jobs.modes import choose_mode

    machine = {"models": [{"name": "other"}, {"name": "mine"} | ({"modes": modes} if modes else {})]}
    assert choose_mode(machine, "mine", wish) == chosen
    assert (
        choose_mode(machine, "nobody's", wish) == choose_mode(None, "mine", wish) == (wish if wish != "auto" else None)
    )


@WARM
def test_the_mr_has_the_cts_geometry_transform_and_study_and_says_how_it_was_made(logic, ct, tiny):  # noqa: F811
    import slicer

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    ct.SetAndObserveTransformNodeID(transform.GetID())
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(ct), study)
    told = []
    mr = logic.convert(ct, model=tiny, samples=2, softMask=True, seed=3, listener=lambda j, w: told.append(w), **SOME)

    uncertainty, soft_mask = (mr.GetNodeReference(f"DiffMa.{role}") for role in ("uncertainty", "softMask"))
    for node in (mr, uncertainty, soft_mask):
        assert np.array_equal(matrix_of(node), matrix_of(ct)) and node.GetImageData().GetDimensions() == (48, 40, 12)
        assert node.GetParentTransformNode() is transform
        assert node.GetImageData().GetScalarTypeAsString() == "float"
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
        assert node.GetAttribute("DiffMa.synthetic") == "1" and node.GetNodeReference("DiffMa.ct") is ct
        assert "Research only" in node.GetAttribute("DiffMa.notice")
    facts = {name: mr.GetAttribute(f"DiffMa.{name}") for name in ("model", "steps", "seed", "samples", "scheduler")}
    assert facts == {"model": "tiny", "steps": "1", "seed": "3", "samples": "2", "scheduler": "dpm++"}
    assert len(mr.GetAttribute("DiffMa.modelChecksum")) == 64 and "torch" in mr.GetAttribute("DiffMa.software")
    assert mr.GetAttribute("DiffMa.device") == "cpu" and mr.GetAttribute("DiffMa.date")
    assert mr.GetAttribute("DiffMa.partial") is None
    assert mr.GetName().startswith("CT of somebody synthetic MR") and "DEMO" not in mr.GetName()
    assert uncertainty.GetName().endswith("uncertainty")
    assert voxels(uncertainty).max() > 0 and 0 < voxels(soft_mask).max() <= 1
    assert mr.GetDisplayNode().GetAutoWindowLevel() == 0
    assert "slice" in told and told[-1] == "done" and logic.runner._timer is None

    again = logic.convert(ct, mr, model=tiny, seed=3, samples=2, softMask=True, **SOME)
    assert again is mr and len(volumes()) == 4, "a second run fills the same nodes"
    assert logic.estimate(tiny, "cpu", steps=1, slices=10).runs == 2


@WARM
def test_the_voxels_are_those_that_the_command_line_writes(logic, ct, tiny, tmp_path):  # noqa: F811
    mr = logic.convert(ct, model=tiny, slices=(3, 7), **SOME)
    path = drain(logic._files.acquire(ct))
    output = str(tmp_path / "mr.nii")
    words = ["convert", str(path), output, "--model", tiny, "--steps", "1", "--slices", "3:8", "--device", "cpu"]
    python = shutil.which("PythonSlicer") or sys.executable
    subprocess.run([python, "-m", "DiffMaCore", *words], cwd=ROOT, check=True, capture_output=True)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(output))
    assert np.array_equal(voxels(mr), expected)
    background = expected.min()
    assert (voxels(mr)[[0, 1, 2, 8, 9, 10, 11]] == background).all() and voxels(mr)[3:8].max() > background


@WARM
def test_slices_come_in_one_by_one_and_keep_partial_keeps_them(logic, tiny):  # noqa: F811
    ct = make_ct(shape=(40, 40, 48))  # noqa: F811
    job = logic.convert(ct, model=tiny, steps=30, device="cpu", keepPartial=True, blocking=False)
    poll_until(job, lambda: job.outputNode is not None and len(job.finishedSlices) >= 8)
    assert "slice" in job.detail and 0 < job.fraction < 1 and job.outputNode.GetName() in volumes()
    job.cancel()
    poll_to_the_end(job)
    assert job.state is JobState.CANCELLED and not job.process.tree_running
    mr = job.outputNode
    assert mr.GetAttribute("DiffMa.partial").endswith("of 38 slices") and mr.GetAttribute("DiffMa.steps") == "30"
    filled = (voxels(mr) != voxels(mr).min()).any(axis=(1, 2))
    assert 8 <= filled.sum() < 38


@WARM
def test_cancel_takes_away_a_new_node_and_gives_a_chosen_one_its_content_back(logic, tiny):  # noqa: F811
    ct = make_ct(shape=(40, 40, 48))  # noqa: F811
    chosen = make_ct("my own volume")
    before, image = voxels(chosen), chosen.GetImageData()
    for node in (None, chosen):
        job = logic.convert(ct, node, model=tiny, steps=30, device="cpu", blocking=False)
        poll_until(job, lambda job=job: job.outputNode is not None)
        if node is not None:
            assert chosen.GetImageData() is not image
        job.cancel()
        poll_to_the_end(job)
        assert job.state is JobState.CANCELLED and volumes() == ["CT of somebody", "my own volume"]
    assert np.array_equal(voxels(chosen), before) and chosen.GetImageData() is image
    assert chosen.GetAttribute("DiffMa.synthetic") is None


@pytest.mark.parametrize("what", ["scene closed", "input deleted", "output deleted", "logic cleaned up"])
def test_whatever_vanishes_during_a_run_leaves_no_child_no_node_and_no_file(
    logic,  # noqa: F811
    slicer_host,
    tiny,
    what,
    request,
):
    import slicer

    if what != "logic cleaned up":
        request.getfixturevalue("warm")
    ct = make_ct(shape=(40, 40, 48))  # noqa: F811
    job = logic.convert(ct, model=tiny, steps=30, device="cpu", blocking=False)
    poll_until(job, lambda: job.outputNode is not None)
    if what == "scene closed":
        slicer.mrmlScene.Clear(0)
    elif what == "input deleted":
        slicer.mrmlScene.RemoveNode(ct)
    elif what == "output deleted":
        slicer.mrmlScene.RemoveNode(job.outputNode)
    else:
        logic.cleanup()
    poll_to_the_end(job)
    assert goes(lambda: job.process.tree_running)
    assert job.state is JobState.CANCELLED
    assert volumes() == ([] if what in ("scene closed", "input deleted") else ["CT of somebody"])
    logic.cleanup()
    assert left_over(slicer_host.folder) == []


@WARM
def test_the_panels_parameters_decide_and_are_only_read(logic, ct, tiny):  # noqa: F811
    node = logic.getParameterNode()
    node.inputVolume, node.model, node.steps, node.device = ct, tiny, 1, "cpu"
    node.limitSlices, node.firstSlice, node.lastSlice, node.makeSoftMask = True, 5, -1, True
    job = logic.convertFromParameters(node)
    poll_to_the_end(job)
    assert job.state is JobState.DONE, job.error
    assert job.softMaskNode is not None and job.uncertaintyNode is None
    assert node.outputVolume is None and not (voxels(job.outputNode)[:5] != voxels(job.outputNode).min()).any()


@WARM
def test_the_bundled_demo_model_is_called_demo(logic):  # noqa: F811
    ct = make_ct(shape=(4, 40, 48))  # noqa: F811
    mr = logic.convert(ct, steps=1, device="cpu")
    assert mr.GetName().startswith("CT of somebody synthetic MR") and mr.GetName().endswith("(DEMO)")
    assert mr.GetAttribute("DiffMa.model") == "demo"


def test_a_transform_that_is_not_linear_is_refused(logic, ct, tiny):  # noqa: F811
    import slicer
    import vtk

    grid = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Acquisition transform")
    warp = vtk.vtkThinPlateSplineTransform()
    warp.SetSourceLandmarks(points([(0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9)]))
    warp.SetTargetLandmarks(points([(0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 5, 9)]))
    grid.SetAndObserveTransformToParent(warp)
    ct.SetAndObserveTransformNodeID(grid.GetID())
    with pytest.raises(RuntimeError, match=r"not linear.*Harden"):
        logic.convert(ct, model=tiny)
    assert "Harden" in logic.describe(ct).problem


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_an_exported_ct_reads_back_bit_for_bit(logic, ct, dtype):  # noqa: F811
    import slicer

    values = np.random.default_rng(0).integers(0, 100, (5, 6, 7)).astype(dtype)
    slicer.util.updateVolumeFromArray(ct, values)
    path = drain(logic._files.acquire(ct))
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), values)
    assert (path.parent.stat().st_mode & 0o777) == 0o700
    ours = np.diag([-1.0, -1.0, 1.0]) @ matrix_of(ct)[:3, :3]
    assert tuple(image.GetOrigin()) == tuple(np.diag([-1.0, -1.0, 1.0]) @ matrix_of(ct)[:3, 3])
    theirs = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    assert np.allclose(theirs, ours, rtol=0, atol=1e-14)


def test_an_exported_ct_is_shared_until_the_node_changes(logic, ct):  # noqa: F811
    files = logic._files
    first = drain(files.acquire(ct))
    assert drain(files.acquire(ct)) == first
    ct.SetIJKToRASMatrix(as_matrix(np.eye(4)))
    second = drain(files.acquire(ct))
    assert second != first and first.is_file(), "two jobs still read the first file"
    files.release(first)
    files.release(first)
    assert not first.exists() and second.is_file()
    files.forget(ct.GetID())
    files.release(second)
    assert not second.exists()


def drain(generator):
    """Run a generator to its end; returns what it returns."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def points(coordinates):
    """vtkPoints of (x, y, z)."""
    import vtk

    made = vtk.vtkPoints()
    for point in coordinates:
        made.InsertNextPoint(point)
    return made


def poll_to_the_end(job, seconds: float = 240.0):
    """Poll until the job is over."""
    end = time.monotonic() + seconds
    while not job.poll():
        assert time.monotonic() < end, f"not over after {seconds} s"
        time.sleep(0.005)
