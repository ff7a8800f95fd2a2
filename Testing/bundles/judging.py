"""Give hostile bundles, pickles and zips to the program, each in a child process, and judge what becomes of them.

python -m Testing.bundles.judging --seed 1          every case of a seed, and a table of the mishandled
python -m Testing.bundles.judging --seed 1 --only manifest
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from DiffMaCore.errors import DiffMaError
from Testing.bundles.hostile import Case, cases, make
from Testing.bundles.malicious import CANARY, Attack, attacks

SECONDS = 10  # of the processor; of the clock six times that, since other programs may be busy
MEMORY = 2 << 30  # beside what the program holds when it starts
LONGEST = 700  # characters of a refusal, most of them the path


def in_child(task: Callable[[], str]) -> tuple[str, str]:
    """Run ``task`` in a fork with limits of time and memory: what became of it and what it printed.

    The first is what ``task`` returned, "refused: MESSAGE" for one of our errors, "traceback: ..." for any other, or
    "died: SIGNAL".
    """
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as printed:
        child = os.fork()
        if not child:
            _limit()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
            try:
                outcome = task()
            except DiffMaError as error:
                outcome = f"refused: {error}"
            except BaseException as error:
                outcome = f"traceback: {type(error).__name__}: {str(error)[:200]}"
            os.write(told.fileno(), outcome.encode("utf-8", "backslashreplace"))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        told.seek(0)
        printed.seek(0)
        outcome = told.read().decode()
        if os.WIFSIGNALED(status):
            outcome = f"died: {signal.Signals(os.WTERMSIG(status)).name}"
        return outcome, printed.read().decode(errors="replace")


def _limit() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(6 * SECONDS)


def judge(case: Case, folder: Path) -> list[str]:
    """What is wrong with how the program handles a case, written below ``folder``: nothing, if all is well."""
    given = make(case, folder / "given")
    home = folder / "home"
    os.environ["DIFFMA_HOME"] = str(home)
    outside = {*folder.iterdir(), home, folder / "added"}

    def add() -> str:
        from DiffMaCore.bundles import store

        target = store.add(given)
        (folder / "added").touch()
        return _use(target)

    found = []
    for door, task in (("add", add), ("load", lambda: _use(given))):
        outcome, printed = in_child(task)
        found += [f"{door}: {wrong}" for wrong in _wrong(case, outcome, printed)]
        left = [str(path.relative_to(home)) for path in home.rglob("*")] if home.exists() else []
        if not (folder / "added").exists() and [name for name in left if name != "models"]:
            found.append(f"{door}: left {left[:3]} behind")
    found += [f"wrote {path}" for path in folder.iterdir() if path not in outside]
    return found


def judge_attack(attack: Attack, folder: Path, bundle: Path) -> list[str]:
    """The same of a pickle or zip that is made to harm; ``bundle`` is a sound one that it may be made of."""
    canary, home, given = folder / CANARY, folder / "home", folder / "given"
    os.environ["DIFFMA_HOME"] = str(home)
    given.mkdir()
    path = attack.make(given, canary, bundle)
    before = {*folder.rglob("*")}

    def task() -> str:
        from DiffMaCore.bundles import store
        from DiffMaCore.bundles.unpickle import load_released_checkpoint
        from DiffMaCore.models import components

        parts = {"vae": components.VAE, "small": components.SMALL, "clip": components.IMAGE_ENCODER}
        if attack.door in parts:
            return f"taken: {components.obtain(parts[attack.door], str(path))}"
        return f"taken: {store.add(path) if attack.door == 'zip' else load_released_checkpoint(path)}"

    outcome, printed = in_child(task)
    found = _wrong(Case(attack.name, lambda _: None, ()), outcome, printed)
    left = {*folder.rglob("*")} - before - {home, home / "models"}
    return found + ([f"left {sorted(left)[:3]}"] if left else [])


def _use(bundle: Path) -> str:
    """Load a bundle and let it make the mean and a step of a sample of one slice."""
    import torch

    from DiffMaCore import DiffMaPipeline

    pipe = DiffMaPipeline.from_pretrained(str(bundle))
    pipe.set_device("cpu", scan_backend="torch")
    size = pipe.bundle.image_size
    conditions = pipe.conditions(torch.zeros(1, size, size))
    if "mean" in pipe.bundle.modes:
        pipe.decode(pipe.mean(conditions), None, conditions.ct_pixels)
    return "taken"


def _wrong(case: Case, outcome: str, printed: str) -> list[str]:
    kind, _, message = outcome.partition(": ")
    if case.names is None:
        return ([] if outcome == "taken" else [outcome]) + ([f"printed {printed[:100]!r}"] if printed else [])
    if kind != "refused":
        return [outcome]
    found = [f"printed {printed[:100]!r}"] if printed else []
    found += [f"does not name {name}: {message}" for name in case.names if name not in message]
    if len(message) > LONGEST or not message.isprintable():
        found.append(f"is no sentence: {message[:120]!r}... ({len(message)})")
    return found


def run(chosen: list[Case | Attack], tell: Callable[[str], None] = lambda line: None) -> dict[str, list[str]]:
    """The mishandled cases and what is wrong with each."""
    import torch  # loaded once, for all children
    from diffusers.utils.logging import disable_progress_bar

    from DiffMaCore.inference import pipeline  # noqa: F401

    disable_progress_bar()
    torch.set_num_threads(1)
    mishandled = {}
    with tempfile.TemporaryDirectory() as common:
        bundle = make(cases()[0], Path(common) / "bundle")
        for case in chosen:
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder)
                if wrong := judge(case, place) if isinstance(case, Case) else judge_attack(case, place, bundle):
                    mishandled[case.name] = wrong
                    tell(f"{case.name}\n" + "".join(f"    {line}\n" for line in wrong))
    return mishandled


def main() -> None:
    """Judge all cases of a seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--every", type=int, default=1, help="take one of every so many")
    parser.add_argument("--json", action="store_true", help="print JSON at the end")
    args = parser.parse_args()
    everything: list[Case | Attack] = [*cases(args.seed), *attacks(args.seed)]
    chosen = [case for case in everything if args.only in case.name]
    chosen = chosen[:: args.every]
    mishandled = run(chosen, print if not args.json else lambda line: None)
    if args.json:
        print(json.dumps({"cases": len(chosen), "mishandled": mishandled}))
    else:
        print(f"{len(mishandled)} of {len(chosen)} mishandled")
    sys.exit(bool(mishandled))


if __name__ == "__main__":
    main()
