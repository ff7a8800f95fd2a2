"""The child fails at each stage, by real means: people read the cause and the remedy, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
from child_tools import goes, poll_until, posix_only, script
from DiffMaSlicerLib.jobs.job import JobState
from logic_tools import ct, left_over, logic, make_ct, volumes  # noqa: F401
from test_logic_conversion import poll_to_the_end

WARM = pytest.mark.usefixtures("warm")


def fails(logic, slicer_host, ct, **options) -> str:  # noqa: F811
    """Convert in vain; returns what people read, after a look at what is left."""
    before = volumes()
    with pytest.raises(RuntimeError) as raised:
        logic.convert(ct, steps=1, device="cpu", **options)
    assert volumes() == before
    logic._files.clear()
    assert left_over(slicer_host.folder) == []
    return str(raised.value)


@WARM
def test_damaged_weights_are_named(logic, slicer_host, ct, tiny_bundle, tmp_path):  # noqa: F811
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    weights = max(damaged.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-100])
    said = fails(logic, slicer_host, ct, model=str(damaged))
    assert weights.name in said or "denoiser" in said or "damaged" in said


@WARM
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


@WARM
def test_a_volume_that_is_no_ct_is_told_by_the_child(logic, slicer_host, ct, tiny_bundle):  # noqa: F811
    import slicer

    slicer.util.updateVolumeFromArray(ct, abs(slicer.util.arrayFromVolume(ct)))
    assert "CT" in fails(logic, slicer_host, ct, model=str(tiny_bundle))


def test_an_empty_volume_fails_before_any_child(logic, slicer_host):  # noqa: F811
    import slicer

    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    assert "no voxels" in fails(logic, slicer_host, empty)


HELLO = """echo '{"event": "hello", "pid": '$$', "version": "0", "protocol": 1}'"""


@posix_only
@pytest.mark.parametrize(
    "events",
    [
        '{"event": "volume", "slices": 5}',
        '{"event": "volume", "slices": ["a", {}], "shape": "x"}',
        '{"event": "slice", "slice": 3, "axis": 0, "total": 9, "values": "/etc/passwd"}',
        '{"event": "slice", "slice": 99999, "axis": 2, "values": "/nowhere.npy"}',
        '{"event": "result", "uncertainty": 5, "output_range": [7], "seconds": "long"}',
        '{"event": "stage", "stage": 5, "total": -1}\n{"event": "progress", "step": 1e400, "total": "x"}',
        '{"event": "warning", "message": {"deep": [1]}}\n\\377\\376\n{"event": "note"}',
    ],
)
def test_a_child_that_prints_nonsense_is_a_failure_and_leaves_no_trace(logic, slicer_host, ct, tmp_path, events):  # noqa: F811
    (tmp_path / "events").write_text(events + "\n")
    logic.settings.interpreter = script(tmp_path, f"{HELLO}; cat {tmp_path}/events").path
    assert fails(logic, slicer_host, ct)


@posix_only
def test_a_child_that_hangs_can_be_cancelled_and_is_gone(logic, ct, tmp_path):  # noqa: F811
    hanging = script(tmp_path, f"""trap '' TERM; {HELLO}; echo '{{"event": "stage", "stage": "reading"}}'; sleep 99""")
    logic.settings.interpreter = hanging.path
    job = logic.convert(ct, steps=1, device="cpu", blocking=False)
    poll_until(job, lambda: job.stage == "reading")
    job.cancel()
    poll_to_the_end(job)
    assert job.state is JobState.CANCELLED and volumes() == ["CT of somebody"]
    assert goes(lambda: job.process.tree_running)


@posix_only
def test_a_file_that_the_child_names_outside_of_its_folder_is_left_alone(logic, slicer_host, ct, tmp_path):  # noqa: F811
    np.save(tmp_path / "mine.npy", np.zeros((40, 48), np.float32))
    said = json.dumps({"event": "slice", "slice": 3, "axis": 0, "values": str(tmp_path / "mine.npy")})
    (tmp_path / "events").write_text(said + "\n")
    logic.settings.interpreter = script(tmp_path, f"{HELLO}; cat {tmp_path}/events").path
    assert fails(logic, slicer_host, ct)
    with pytest.raises(RuntimeError):
        logic.convertBatch([ct], tmp_path / "results")
    assert (tmp_path / "mine.npy").is_file()
