"""Faults while bundles are stored: a kill at any step, a full disk, rights lost, the network gone, two at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from DiffMaCore import files
from DiffMaCore.bundles import hub, store
from DiffMaCore.bundles.moving import move_models
from DiffMaCore.errors import ModelError, OutputError
from DiffMaCore.files import HIDDEN, replacing_folder, temporary_folder
from Testing.bundles.test_hub import REPO, WEIGHTS, installed, leftovers, server  # noqa: F401  a fixture
from Testing.conftest import ROOT

from .local_server import LocalHub

ROOT_ONLY = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="a small disk is mounted, which takes root on Linux"
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("trials", [6, pytest.param(12, marks=pytest.mark.slow)])
def test_a_kill_at_any_step_loses_nothing_and_nothing_half_made_is_taken(trials: int) -> None:
    """Of adding, downloading, removing, moving, completing; ``python -m Testing.bundles.killing`` kills more often."""
    command = [sys.executable, "-m", "Testing.bundles.killing", "--trials", str(trials)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == f"0 of {trials} kills lost something\n"


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_makes_is_not(home: Path) -> None:
    code = f"""
import os, pathlib, signal
from DiffMaCore.files import temporary_folder
with temporary_folder(pathlib.Path({str(home / "models")!r})) as folder:
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with temporary_folder(home / "models") as living:
        killed = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
        left = Path(killed.stdout.strip())
        assert living.is_dir() and left.is_dir()
        assert store.installed_names() == store.bundled_names()
        assert living.is_dir() and not left.exists()


def test_a_model_whose_replacement_was_cut_short_is_found_again(home: Path, bundle: Path) -> None:
    target = store.add(bundle)
    aside = target.with_name(files._hidden(target, "old").name.replace(files._START, "0" * 8))
    aside.mkdir()
    target.rename(aside / "tiny")
    assert store.verify_installed("tiny") == target
    with replacing_folder(target) as part:
        shutil.copytree(target, part, dirs_exist_ok=True)
    assert sorted(path.name for path in target.parent.iterdir()) == ["tiny", "tiny.source.json"]


def _at_once(tasks: list[Callable[[], object]]) -> list[int]:
    """Run tasks in children that start together; their exit statuses, 3 where ModelError was raised."""
    wait, go = os.pipe()
    children = []
    for task in tasks:
        child = os.fork()
        if not child:
            os.close(go)
            os.read(wait, 1)
            status = 1
            try:
                task()
                status = 0
            except ModelError:
                status = 3
            finally:
                os._exit(status)
        children.append(child)
    os.close(wait)
    os.close(go)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_two_processes_that_add_the_same_model_install_it_once(home: Path, bundle: Path) -> None:
    assert sorted(_at_once([lambda: store.add(bundle)] * 3)) == [0, 3, 3]
    store.verify_installed("tiny")
    assert sorted(path.name for path in (home / "models").iterdir()) == ["tiny", "tiny.source.json"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_two_processes_that_download_the_same_model_both_get_it(
    server: LocalHub,  # noqa: F811
    home: Path,
    bundle: Path,
) -> None:
    server.offer(REPO, bundle)
    assert _at_once([lambda: hub.find(REPO)] * 2) == [0, 0]
    assert server.fetched.count(WEIGHTS) == 1 and not leftovers(home)
    store.verify_installed("tiny")


def test_a_network_that_is_gone_is_told_and_the_next_call_goes_on(
    server: LocalHub,  # noqa: F811
    home: Path,
    bundle: Path,
) -> None:
    server.offer(REPO, bundle)
    server.breaks = 100
    with pytest.raises(ModelError, match="run the same command again to go on"):
        hub.download(REPO)
    assert installed() == []
    server.breaks = 0
    server.fetched.clear()
    hub.download(REPO)
    assert installed() == ["tiny"] and "denoiser/config.json" not in server.fetched and not leftovers(home)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 20 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


class Filling:
    """Progress that fills the disk when it is first told something of ``what``."""

    def __init__(self, disk: Path, what: str) -> None:
        self.filler, self.what = disk / "filler", what

    def __call__(self, done: int, total: int, what: str) -> None:
        if what.startswith(self.what) and not self.filler.exists():
            with self.filler.open("wb", buffering=0) as out:
                try:
                    while True:
                        out.write(bytes(4096))
                except OSError:
                    pass


@ROOT_ONLY
@pytest.mark.parametrize("kind", ["folder", "zip", "hub"])
def test_a_disk_that_fills_up_is_told_and_leaves_room_for_another_try(
    kind: str,
    small_disk: Path,
    bundle: Path,
    zip_of: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: LocalHub,  # noqa: F811
) -> None:
    monkeypatch.setenv("DIFFMA_HOME", str(small_disk / "home"))
    server.offer(REPO, bundle)
    given = zip_of(bundle, tmp_path / "bundle.zip") if kind == "zip" else bundle
    filling = Filling(small_disk, {"folder": "copying", "zip": "unpacking", "hub": "downloading"}[kind])

    def get(progress: Filling | None) -> Path:
        return hub.download(REPO, report=progress) if kind == "hub" else store.add(given, progress=progress)

    with pytest.raises(OutputError, match=r"cannot (write .*models|be unpacked) \(.*No space left"):
        get(filling)
    assert installed() == [] and list((small_disk / "home" / "models").glob(f"{HIDDEN}*")) == []
    filling.filler.unlink()
    get(None)
    store.verify_installed("tiny")


@ROOT_ONLY
def test_models_stay_where_they_are_when_the_new_disk_fills_up(
    small_disk: Path, home: Path, bundle: Path, tmp_path: Path
) -> None:
    store.add(bundle)
    with pytest.raises(OutputError, match="No space left"):
        move_models(small_disk / "new", Filling(small_disk, "copying"))
    store.verify_installed("tiny")
    assert not (small_disk / "new").exists()


@ROOT_ONLY
@pytest.mark.parametrize("lost", ["the store's", "a file's"])
def test_lost_rights_are_told(lost: str, bundle: Path) -> None:
    with tempfile.TemporaryDirectory() as common:
        place = Path(common)
        place.chmod(0o755)
        shutil.copytree(bundle, place / "given")
        (place / "home" / "models").mkdir(parents=True)
        (place / "home" / "models").chmod(0o755 if lost == "the store's" else 0o777)
        if lost == "a file's":
            (place / "given" / "denoiser" / "config.json").chmod(0)
        code = f"""
import os, pathlib, filelock, safetensors.numpy  # all that is imported later, from where only root may read
from DiffMaCore.bundles import store
os.setuid(65534)
try:
    store.add(pathlib.Path({str(place / "given")!r}))
except store.DiffMaError as error:
    print(error)
"""
        environment = {**os.environ, "DIFFMA_HOME": str(place / "home")}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        told = f"cannot write {place / 'home' / 'models'} (" if lost == "the store's" else "config.json cannot be read"
        assert told in done.stdout and "Permission denied" in done.stdout
