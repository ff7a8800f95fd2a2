"""Hostile bundles, pickles and zips are refused in one sentence, run nothing and leave nothing; sound ones are taken.

``python -m Testing.bundles.judging --seed N`` gives every case of a seed to the program; here is every 45th of it, by
``--slow`` every fifteenth.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from dataclasses import MISSING, fields

import pytest

from DiffMaCore.bundles.component_configs import CLASSES
from Testing.conftest import ROOT

_EXTRA = {"block_out_channels"}  # AutoencoderTiny saves it and does not take it


@pytest.mark.timeout(900)
def test_no_hostile_bundle_pickle_or_zip_is_mishandled(pytestconfig: pytest.Config) -> None:
    every = 15 if pytestconfig.getoption("--slow") else 45
    command = [sys.executable, "-m", "Testing.bundles.judging", "--seed", "0", "--every", str(every), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["mishandled"] == {} and told["cases"] > 540 / every


@pytest.mark.parametrize(("component", "name"), [(part, name) for part, known in CLASSES.items() for name in known])
def test_a_checked_configuration_has_the_keys_and_defaults_of_its_class(component: str, name: str) -> None:
    from DiffMaCore.diffusion.loading import class_of

    ours = {item.name: item.default for item in fields(CLASSES[component][name][1])}
    theirs = {key: p.default for key, p in inspect.signature(class_of(name).__init__).parameters.items()}
    for key, default in ours.items():
        if key not in _EXTRA:
            expected = theirs[key]
            expected = tuple(expected) if isinstance(expected, list) else expected
            assert default == (MISSING if expected is inspect.Parameter.empty else expected), key
    assert set(theirs) - {"self"} <= set(ours)
