"""Damage thousands of files and see what ``diffma check`` makes of them: ``python Testing/fuzz/fuzz.py --cases 20000``.

Every case follows from its number and --seed, whatever came before it. What was not handled is kept in --keep.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from damage import damage_case
from judging import GOOD, Outcome, Worker, check
from seed_files import HU, SEEDS


class Fuzzer:
    """Case ``number`` of ``seed``: one seed file, copied, damaged and checked, in a worker process."""

    def __init__(self, folder: Path, seed: int, names: tuple[str, ...] = tuple(SEEDS)) -> None:
        self._seed, self._names, self._place = seed, names, folder / "case"
        self._intact = {name: SEEDS[name](folder / "seeds" / name) for name in names}
        self._worker = Worker(self._run)

    def __call__(self, number: int) -> Outcome:
        """The outcome; the damaged file lies at :attr:`place` until the next case."""
        outcome = self._worker(number)
        assert isinstance(outcome, Outcome)
        return outcome

    @property
    def place(self) -> Path:
        return self._place

    def name(self, number: int) -> str:
        """The seed file of a case."""
        return self._names[number % len(self._names)]

    def end(self) -> None:
        self._worker.end()

    def _run(self, number: object) -> Outcome:
        assert isinstance(number, int)
        intact = self._intact[self.name(number)]
        shutil.rmtree(self._place, ignore_errors=True)
        if intact.is_dir():
            target = Path(shutil.copytree(intact, self._place))
        else:
            shutil.copytree(intact.parent, self._place)
            target = self._place / intact.name
        whole = damage_case(target, np.random.default_rng([self._seed, number]))
        outcome = check(target, HU if whole else None)
        return Outcome(outcome.kind, outcome.said)  # without the voxels


def main() -> int:
    """Returns 1 where anything was not handled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this long")
    parser.add_argument("--only", choices=SEEDS, nargs="+", default=tuple(SEEDS))
    parser.add_argument("--keep", type=Path, help="folder for the files that were not handled")
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    began, number = time.monotonic(), args.first
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder), args.seed, tuple(args.only))
        for number in range(args.first, args.first + args.cases):
            if time.monotonic() - began > args.seconds:
                break
            outcome = fuzzer(number)
            counts[outcome.kind] += 1
            if outcome.kind not in GOOD:
                tail = outcome.said.strip().splitlines()[-3:]
                print(f"{number} {fuzzer.name(number)} {outcome.kind}: {' | '.join(tail)[:300]}", flush=True)
                if args.keep:
                    shutil.copytree(fuzzer.place, args.keep / str(number), dirs_exist_ok=True)
        fuzzer.end()
    total = sum(counts.values())
    bad = total - sum(counts[kind] for kind in GOOD)
    print(f"{total} cases in {time.monotonic() - began:.0f} s, {bad} not handled: {dict(counts)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
