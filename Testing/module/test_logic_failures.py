"""The child fails at each stage, by real means: people read the cause and the remedy, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys

import pytest
from child_tools import poll_until, posix_only, script
from DiffMaSlicerLib.jobs.job import JobState
from logic_tools import ct, left_over, logic, make_ct, volumes  # noqa: F401
from test_logic_conversion import poll_to_the_end


def fails(logic, slicer_host, ct, **options) -> str:  # noqa: F811
    """Convert in vain; returns what people read, after a look at what is left."""
    before = volumes()
    with pytest.raises(RuntimeError) as raised:
        logic.convert(ct, steps=1, device="cpu", **options)
    assert volumes() == before
    logic._files.clear()
    assert left_over(slicer_host.folder) == []
    return str(raised.value)


def test_damaged_weights_are_named(logic, slicer_host, ct, tiny_bundle, tmp_path):  # noqa: F811
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    weights = max(damaged.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-100])
    said = fails(logic, slicer_host, ct, model=str(damaged))
    assert weights.name in said or "denoiser" in said or "damaged" in said


def test_an_unknown_model_is_named(logic, slicer_host, ct):  # noqa: F811
    assert "no-such-model" in fails(logic, slicer_host, ct, model="no-such-model")


@posix_only
def test_a_missing_package_leads_to_the_packages_check(logic, slicer_host, ct, tiny_bundle, tmp_path):  # noqa: F811
    # a real Python in which torch is not to be found
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    hidden = script(tmp_path, f'PYTHONPATH="{tmp_path}:$PYTHONPATH" exec "{sys.executable}" "$@"')
    logic.settings.interpreter = hidden.path
    said = fails(logic, slicer_host, ct, model=str(tiny_bundle))
    assert "torch" in said and "Install packages" in said


LITTLE_MEMORY = """
import re, resource, runpy, sys
import DiffMaCore.inference.convert, DiffMaCore.diffusion.pipeline
from diffusers import AutoencoderKL
size = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (size + (160 << 20), size + (160 << 20)))
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is set by what /proc tells")
def test_too_little_memory_is_explained(logic, slicer_host, tiny_bundle, tmp_path):  # noqa: F811
    (tmp_path / "limited.py").write_text(LITTLE_MEMORY)
    logic.settings.interpreter = script(tmp_path, f'exec "{sys.executable}" "{tmp_path}/limited.py" "$@"').path
    said = fails(logic, slicer_host, make_ct(shape=(100, 400, 400)), model=str(tiny_bundle))
    assert "out of memory" in said and "fewer slices" in said


@posix_only
def test_a_child_killed_in_the_middle_takes_its_slices_with_it(logic, tiny_bundle, ct):  # noqa: F811
    job = logic.convert(ct, model=str(tiny_bundle), steps=200, device="cpu", blocking=False)
    poll_until(job, lambda: job.stage == "synthesising")
    os.kill(job.process.pid, signal.SIGKILL)
    poll_to_the_end(job)
    assert job.state is JobState.FAILED and job.error.kind == "Killed" and "fewer slices" in job.error.remedy
    assert volumes() == ["CT of somebody"] and not job.process.tree_running


def test_an_interpreter_that_is_gone_is_named(logic, slicer_host, ct):  # noqa: F811
    logic.settings.interpreter = "/no/such/python"
    said = fails(logic, slicer_host, ct)
    assert "/no/such/python does not exist" in said and "another Python" in said


def test_a_volume_that_is_no_ct_is_told_by_the_child(logic, slicer_host, ct, tiny_bundle):  # noqa: F811
    import slicer

    slicer.util.updateVolumeFromArray(ct, abs(slicer.util.arrayFromVolume(ct)))
    assert "CT" in fails(logic, slicer_host, ct, model=str(tiny_bundle))


def test_an_empty_volume_fails_before_any_child(logic, slicer_host):  # noqa: F811
    import slicer

    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    assert "no voxels" in fails(logic, slicer_host, empty)
