"""Kill what is done with bundles at any of its steps, do it again, and see whether anything is lost or half-taken.

    python -m Testing.bundles.killing --trials 300 --seed 1

A child process kills itself (SIGKILL) at a step drawn from all those of the task (``Testing.faults.forked``).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from DiffMaCore.bundles import hub, moving, store
from DiffMaCore.bundles.manifest import verify
from DiffMaCore.errors import ModelError
from DiffMaCore.files import replacing_folder
from Testing.bundles.hostile import DEMO, INDEX, _set, seal
from Testing.bundles.local_server import LocalHub, serving
from Testing.faults.forked import in_child

REPO = "someone/head"


def sound_bundle(folder: Path) -> Path:
    """The demo by a name that can be installed."""
    shutil.copytree(DEMO, folder)
    _set(folder / INDEX, "bundle.name", "head")
    seal(folder)
    return folder


class Trial:
    """One task in a folder of its own, and what must hold after it was killed and after it was repeated."""

    def __init__(self, folder: Path, bundle: Path, server: LocalHub) -> None:
        self.home, self.new, self.bundle, self.server = folder / "home", folder / "new", bundle, server
        os.environ["DIFFMA_HOME"] = str(self.home)

    def prepare(self) -> None:
        """What must be there before."""

    def task(self) -> None:
        """What is killed, and done again."""
        raise NotImplementedError

    def whole(self) -> bool:
        """After a kill: whether the model is there, whole; raises where it is there in part."""
        os.environ["DIFFMA_HOME"] = str(self.home)
        if "head" not in store.installed_names():
            return False
        store.verify_installed("head")
        return True


class Add(Trial):
    """``diffma models add FOLDER``."""

    def task(self) -> None:
        try:
            store.add(self.bundle)
        except ModelError as error:
            if "installed already" not in str(error):
                raise


class AddZip(Add):
    """``diffma models add ZIP``."""

    def prepare(self) -> None:
        self.bundle = Path(shutil.make_archive(str(self.home.with_name("zipped")), "zip", self.bundle))


class Download(Trial):
    """``diffma models download ID``."""

    def task(self) -> None:
        assert hub.download(REPO) == store.resolve(REPO)


class Remove(Trial):
    """``diffma models remove NAME``."""

    def prepare(self) -> None:
        store.add(self.bundle)

    def task(self) -> None:
        if "head" in store.installed_names():
            store.remove("head")
        store.add(self.bundle)


class Move(Trial):
    """``diffma models move FOLDER``."""

    def prepare(self) -> None:
        store.add(self.bundle)
        store.add(self.bundle, "other")

    def task(self) -> None:
        moving.move_models(self.new)

    def whole(self) -> bool:
        for name in ("head", "other"):
            places = [place / "models" / name for place in (self.home, self.new)]
            found = [place for place in places if place.is_dir()]
            assert found, f"{name} is lost"
            for place in found:
                verify(place)
        if not (self.home / "models" / "head").is_dir():
            self.home = self.new
        return True


class Replace(Trial):
    """``diffma models complete`` at its end: a folder takes the place of another."""

    def prepare(self) -> None:
        store.add(self.bundle)

    def task(self) -> None:
        with replacing_folder(self.home / "models" / "head") as part:
            shutil.copytree(self.bundle, part, dirs_exist_ok=True)

    def whole(self) -> bool:
        assert super().whole(), "the model is lost"
        return True


TRIALS = (Add, AddZip, Download, Remove, Move, Replace)


def kill(kind: type[Trial], count: int, seed: int, tell: Callable[[str], None] = lambda line: None) -> list[str]:
    """Kill a task at ``count`` steps drawn from all of it; what went wrong, if anything did."""
    random_ = random.Random(f"{kind.__name__} {seed}")
    wrong: list[str] = []
    with serving() as server, tempfile.TemporaryDirectory() as common:
        os.environ["HF_ENDPOINT"] = server.url
        bundle = sound_bundle(Path(common) / "given")
        server.offer(REPO, bundle)
        total = 0
        for number in range(count + 1):
            with tempfile.TemporaryDirectory() as folder:
                trial = kind(Path(folder), bundle, server)
                trial.prepare()
                step = random_.randint(1, total) if number else None
                killed = in_child(trial.task, step)
                total = total or killed.steps
                try:
                    # the steps of two runs differ by a few, so that a kill at the very end may come too late
                    assert killed.status in (0, -signal.SIGKILL), f"ended with {killed.status}: {killed.said}"
                    trial.whole()
                    if kind is not Move or trial.home != trial.new:
                        assert in_child(trial.task).status == 0, "could not be repeated"
                    assert trial.whole(), "the model is not there"
                except Exception as problem:
                    wrong.append(f"{kind.__name__}, killed at step {step} of {total}: {problem!r}")
                    tell(wrong[-1])
    return wrong


def main() -> None:
    """Kill every task so often."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    each = -(-args.trials // len(TRIALS))
    wrong = [line for kind in TRIALS for line in kill(kind, each, args.seed, print)]
    print(f"{len(wrong)} of {each * len(TRIALS)} kills lost something")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
