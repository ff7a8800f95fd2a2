"""``diffma check``, ``phantom``, ``packages`` and what ``info`` and ``models`` tell a program."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from DiffMaCore.bundles.store import bundled_names
from DiffMaCore.cli.main import main
from Testing.images import head_like_ct

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a command in JSON mode with an empty user folder and gives its last event."""
    monkeypatch.setenv("DIFFMA_HOME", str(tmp_path / "home"))

    def run(*words: object) -> dict[str, Any]:
        main([*map(str, words), "--progress", "json"])
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert events[0]["event"] == "hello"
        return events[-1]

    return run


def test_a_ct_is_described_with_what_a_model_says_of_it(ask: Ask, tiny_bundle: Path, tmp_path: Path) -> None:
    array = sitk.GetArrayFromImage(head_like_ct())
    array[2, 0, :3] = np.nan
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((20, 20, 8))
    sitk.WriteImage(image, str(tmp_path / "ct.nrrd"))
    facts = ask("check", tmp_path / "ct.nrrd", "--model", tiny_bundle)
    assert facts["looks_like_ct"] and facts["problem"] is None
    assert (facts["size"], facts["nan_count"], facts["anatomy"]) == ([40, 44, 6], 3, "brain")
    assert "larger than a head" in facts["anatomy_notes"][0]
    assert facts["training_words"] == "not known: the model does not say what it was trained on"
    facts = ask("check", tmp_path / "ct.nrrd", "--model", "demo")
    assert facts["training_words"].startswith("Outside of what the model was trained on: ")


def test_what_is_no_ct_is_described_too_and_what_cannot_be_read_is_an_error(ask: Ask, tmp_path: Path) -> None:
    sitk.WriteImage(head_like_ct() + 5000, str(tmp_path / "mr.nrrd"))
    facts = ask("check", tmp_path / "mr.nrrd")
    assert facts["event"] == "result" and not facts["looks_like_ct"] and facts["problem"]
    assert facts["model"] == "demo"
    assert ask("check", tmp_path / "absent.nrrd")["kind"] == "InputError"


def test_the_status_of_a_check_tells_whether_the_model_can_convert(tmp_path: Path) -> None:
    for name, image in (("ct", head_like_ct()), ("mr", head_like_ct() + 5000)):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    assert [main(["check", str(tmp_path / f"{name}.nrrd")]) for name in ("ct", "mr")] == [0, 1]


def test_a_phantom_is_written_twice_alike(ask: Ask, tmp_path: Path) -> None:
    for name, contrast in (("a", "t1"), ("b", "t2")):
        facts = ask(
            *("phantom", tmp_path / f"{name}.nii", "--mr", tmp_path / f"{name}_mr.nii"),
            *("--seed", 7, "--contrast", contrast, "--head", "head_12"),
        )
    assert facts["seed"] == 7 and (facts["head"], facts["contrast"]) == ("head_12", "t2")
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()
    t1, t2 = (sitk.ReadImage(str(tmp_path / f"{name}_mr.nii")) for name in ("a", "b"))
    assert list(t1.GetSize()) == list(t2.GetSize()) == facts["shape"][::-1]
    brains = [sitk.GetArrayFromImage(image)[facts["shape"][0] * 2 // 3] for image in (t1, t2)]
    assert np.corrcoef(brains[0][brains[0] > 120], brains[1][brains[0] > 120])[0, 1] < 0


def test_a_phantom_of_no_seed_and_of_no_head_is_refused(ask: Ask, tmp_path: Path) -> None:
    assert ask("phantom", tmp_path / "a.nii", "--seed", -1)["kind"] == "InputError"
    answer = ask("phantom", tmp_path / "a.nii", "--head", "nobody")
    assert answer["kind"] == "InputError" and "head_06, head_12" in answer["message"]


def test_packages_are_compared_and_not_imported(ask: Ask, tmp_path: Path) -> None:
    listed = tmp_path / "requirements.txt"
    listed.write_text(
        "# needed\nnumpy>=1.20  # arrays\n\nno-such-package>=3\ntqdm>=999\nwinreg; sys_platform == 'no system'\n"
    )
    facts = ask("packages", "--requirements", listed)
    rows = {row["name"]: row for row in facts["packages"]}
    assert list(rows) == ["numpy", "no-such-package", "tqdm"] and not facts["ok"]
    assert rows["numpy"]["ok"] and rows["numpy"]["installed"] == np.__version__
    assert rows["no-such-package"] == {"name": "no-such-package", "required": ">=3", "installed": None, "ok": False}
    assert rows["tqdm"]["installed"] and not rows["tqdm"]["ok"]
    listed.write_text("not a requirement\n")
    assert ask("packages", "--requirements", listed)["kind"] == "InputError"


def test_info_tells_schedulers_and_what_could_be_had(ask: Ask) -> None:
    facts = ask("info")
    assert [each["name"] for each in facts["schedulers"]] == ["dpm++", "unipc", "ddim", "ddpm"]
    assert all(each["title"] and each["note"] and each["min_steps"] > 0 for each in facts["schedulers"])
    assert {each["state"] for each in facts["catalogue"]} == {"importable"}
    assert facts["models"][0]["name"] == "demo"


def test_a_damaged_catalogue_is_a_warning_and_hides_nothing_else(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "catalogue.json").write_text("[]")
    facts = ask("info")
    assert facts["event"] == "result" and facts["catalogue"] == [] and facts["devices"]


def test_models_answer_a_program(ask: Ask, tiny_bundle: Path, tmp_path: Path) -> None:
    added = ask("models", "add", tiny_bundle)
    assert (added["name"], added["missing"], added["completing_command"]) == ("tiny", [], None)
    assert [model["name"] for model in ask("models", "list")["models"]] == [*bundled_names(), "tiny"]
    assert "Research only" in ask("models", "show", "demo")["card_text"]
    assert ask("models", "verify", "tiny")["sound"] == ["tiny"]
    moved = ask("models", "move", tmp_path / "elsewhere")
    assert Path(moved["models"]) == tmp_path / "elsewhere" / "models"
    assert ask("models", "path")["home"] == str(tmp_path / "home")
    assert ask("models", "remove", "tiny")["kind"] == "ModelError"
