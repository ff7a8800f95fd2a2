"""Files and folders that take the place of others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from DiffMaCore.files import alone_in, replacing, replacing_folder
from DiffMaCore.progress import Reporter
from DiffMaCore.training.experiment import Folders
from DiffMaCore.training.prepare import prepare_cases
from DiffMaCore.training.tasks import train_part
from Testing.conftest import ROOT
from Testing.training.tiny_cache import SPLIT, tiny_cases, tiny_experiment


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_never_half_of_what_it_was_while_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen, remove = tmp_path / "bundle", [], shutil.rmtree

    def watched(path: Path, **options: object) -> None:
        seen.append(_names(folder))
        remove(path, **options)
        seen.append(_names(folder))

    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).touch()
    monkeypatch.setattr(shutil, "rmtree", watched)
    with replacing_folder(folder) as part:
        for name in ("c", "d"):
            (part / name).touch()
    assert seen and all(names in ({"a", "b"}, {"c", "d"}) for names in seen)
    assert _names(tmp_path) == {"bundle"} and _names(folder) == {"c", "d"}


def test_a_folder_stays_as_it_was_where_its_successor_fails(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "a").touch()
    with pytest.raises(OSError), replacing_folder(folder) as part:
        (part / "b").touch()
        raise OSError
    assert _names(tmp_path) == {"bundle"} and _names(folder) == {"a"}


def test_a_container_on_the_same_machine_leaves_alone_what_it_cannot_see_the_process_of(tmp_path: Path) -> None:
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no other numbering of processes can be made here, which takes Linux and its rights")
    code = f"from pathlib import Path; from DiffMaCore.files import clear_left; clear_left(Path({str(tmp_path)!r}))"
    with replacing(tmp_path / "result") as part:
        part.write_text("whole")
        subprocess.run([*apart, sys.executable, "-c", code], cwd=ROOT, check=True)
    assert (tmp_path / "result").read_text() == "whole"


_AT_WORK = """
import sys
from pathlib import Path
from DiffMaCore.progress import Reporter
from DiffMaCore.files import alone_in
with alone_in(Path(sys.argv[1]), Reporter()):
    print("in", flush=True)
    sys.stdin.read()
"""


class Killer(Reporter):
    """Kills a process that is at work in a folder, once it is waited for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        command = [sys.executable, "-c", _AT_WORK, str(folder)]
        self.other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.other.stdout is not None and self.other.stdout.readline()
        self.waited_for: list[str] = []

    def note(self, message: str) -> None:
        if "another process is at work" in message:
            self.waited_for.append(message)
            self.other.kill()


def test_a_process_waits_for_another_in_the_same_folder_and_not_for_one_that_was_killed(tmp_path: Path) -> None:
    killer = Killer(tmp_path / "data")
    with alone_in(tmp_path / "data", killer):
        assert len(killer.waited_for) == 1 and killer.other.wait() != 0
    with alone_in(tmp_path / "data", killer), alone_in(tmp_path / "other", killer):
        assert len(killer.waited_for) == 1


@pytest.fixture
def prepares(tmp_path: Path) -> tuple[Path, Callable[[Reporter], object]]:
    experiment = tiny_experiment(tmp_path / "networks")
    folders = Folders(tmp_path / "run")
    return folders.data, lambda r: prepare_cases(experiment, folders, tiny_cases(), SPLIT, r, device="cpu")


@pytest.fixture
def trains(tmp_path: Path) -> tuple[Path, Callable[[Reporter], object]]:
    experiment = tiny_experiment(tmp_path / "networks")
    folders = Folders(tmp_path / "run")
    prepare_cases(experiment, folders, tiny_cases(), SPLIT, device="cpu")
    return folders.embedder, lambda r: train_part(experiment, folders, "embedder", r, "cpu")


@pytest.mark.parametrize("work", ["prepares", "trains"])
def test_two_at_once_in_one_folder_work_one_after_the_other(work: str, request: pytest.FixtureRequest) -> None:
    folder, start = request.getfixturevalue(work)
    killer = Killer(folder)
    start(killer)
    assert len(killer.waited_for) == 1 and str(folder) in killer.waited_for[0]
