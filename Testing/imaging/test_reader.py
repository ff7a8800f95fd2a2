"""The child process that reads untrusted files: it may die, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import head_hu, write_series

from DiffMaCore.errors import InputError, OutOfMemory
from DiffMaCore.imaging import reader
from DiffMaCore.imaging.reading import read_volume

HU = head_hu()


def volume_file(folder: Path) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(HU.astype(np.int16)), str(folder / "ct.nrrd"))
    return folder / "ct.nrrd"


def test_a_reader_that_was_killed_is_started_anew(tmp_path: Path) -> None:
    path = volume_file(tmp_path)
    read_volume(path)
    first = reader._children[os.getpid()]
    first.kill()
    first.wait()
    assert np.array_equal(sitk.GetArrayFromImage(read_volume(path).image), HU)
    assert reader._children[os.getpid()].pid != first.pid


@pytest.mark.parametrize("way", ["crash", "hang", "wait"])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals and no limit of processor time")
def test_a_file_that_ends_its_reader_is_one_sentence_and_the_next_is_read(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = {"crash": "import os; os.abort()", "hang": "while True: pass", "wait": "import time; time.sleep(600)"}[way]
    start = f"import DiffMaCore.imaging.reader_child as c; c._WAYS['file'] = lambda path: exec({dies!r}); c.serve()"
    path = volume_file(tmp_path)
    with monkeypatch.context() as patched:
        reader.end()
        patched.setattr(
            reader, "_CHILD", reader._CHILD.replace("from DiffMaCore.imaging.reader_child import serve; serve()", start)
        )
        patched.setattr(reader, "_LEAST_SECONDS", 1.0)
        patched.setattr(reader, "_WAITING", 1.0 if way == "wait" else reader._WAITING)
        with pytest.raises(InputError, match=r"ct\.nrrd.*(crash|too long|in time).*again") as caught:
            read_volume(path)
    assert "\n" not in str(caught.value)
    assert way != "wait" or "damaged" not in str(caught.value)
    assert np.array_equal(sitk.GetArrayFromImage(read_volume(path).image), HU)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits the memory of a process")
def test_a_volume_that_memory_cannot_hold_is_refused(tmp_path: Path) -> None:
    header = "NRRD0005\ntype: uchar\ndimension: 3\nsizes: 4096 4096 2048\nencoding: raw\ndata file: zeros.raw\n"
    (tmp_path / "big.nhdr").write_text(header + "\n")
    with (tmp_path / "zeros.raw").open("wb") as stream:
        stream.truncate(1 << 35)  # a hole: it takes no room
    with pytest.raises(OutOfMemory, match=r"big\.nhdr"):
        read_volume(tmp_path / "big.nhdr")


def test_reading_imports_no_torch_and_prints_nothing(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", HU)
    code = (
        "import sys; from DiffMaCore.imaging.reading import read_volume; read_volume(sys.argv[1]);"
        " from DiffMaCore.imaging import dicom, files, reader_child; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "ct"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_relative_path_is_read_where_the_caller_stands_and_told_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)  # the reader started in the folder before
        volume_file(tmp_path / name)
        assert np.array_equal(sitk.GetArrayFromImage(read_volume("ct.nrrd").image), HU)
    Path("ct.nrrd").write_bytes(b"NRRD0005\n\n")
    with pytest.raises(InputError, match=r"^ct\.nrrd "):
        read_volume("ct.nrrd")
