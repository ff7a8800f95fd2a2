"""The split is by patient and centre, seeded, and never leaks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from DiffMaCore.errors import InputError
from DiffMaCore.training.experiment import SplitConfig
from DiffMaCore.training.sources import RawCase
from DiffMaCore.training.split import PARTS, check_split, make_split, read_split, write_split


def case(case_id: str, centre: str = "", patient: str | None = None) -> RawCase:
    return RawCase(case_id, centre, lambda: pytest.fail("a split reads no volume"), (), patient)


CASES = [
    case(f"1B{centre}{k:03d}", centre) for centre, count in (("A", 60), ("B", 20), ("C", 20)) for k in range(count)
]


def test_every_centre_gives_its_share() -> None:
    split = make_split(CASES, SplitConfig(0.1, 0.2), 0)
    assert [len(split[part]) for part in PARTS] == [70, 10, 20]
    assert [sum(c[2] == letter for c in split["test"]) for letter in "ABC"] == [12, 4, 4]
    assert [sum(c[2] == letter for c in split["validation"]) for letter in "ABC"] == [6, 2, 2]
    assert sorted(name for part in split.values() for name in part) == sorted(c.id for c in CASES)
    check_split(split, CASES)


def test_the_seed_decides_and_the_order_of_the_cases_does_not() -> None:
    shuffled = random.Random(1).sample(CASES, len(CASES))
    assert make_split(CASES, SplitConfig(), 3) == make_split(shuffled, SplitConfig(), 3)
    assert make_split(CASES, SplitConfig(), 3) != make_split(CASES, SplitConfig(), 4)


def test_few_patients_still_give_one_to_test() -> None:
    split = make_split([case(name) for name in "abc"], SplitConfig(0.1, 0.1), 0)
    assert [len(split[part]) for part in PARTS] == [1, 1, 1]
    assert len(make_split([case(name) for name in "abc"], SplitConfig(0, 0.1), 0)["validation"]) == 0
    with pytest.raises(InputError, match="nobody is left to train on"):
        make_split([case("a")], SplitConfig(0, 0.1), 0)


@pytest.mark.parametrize("seed", range(5))
def test_all_cases_of_a_patient_go_together(seed: int) -> None:
    cases = [case(f"scan{k}", "A", patient=f"patient{k // 3}") for k in range(30)]
    split = make_split(cases, SplitConfig(0.2, 0.2), seed)
    for part in PARTS:
        members = {int(c.removeprefix("scan")) // 3 for c in split[part]}
        assert len(split[part]) == 3 * len(members)
    check_split(split, cases)


def test_named_cases_win_over_the_draw() -> None:
    cases = [case(f"brain_{k:02d}") for k in range(1, 8)]
    split = make_split(cases, SplitConfig(validation=0, test_cases=("brain_06", "brain_07")), 0)
    assert split == {"train": [c.id for c in cases[:5]], "validation": [], "test": ["brain_06", "brain_07"]}
    with pytest.raises(InputError, match=r"test_cases names brain_9.*did you mean brain_0"):
        make_split(cases, SplitConfig(test_cases=("brain_9",)), 0)
    twins = [case("a1", patient="a"), case("a2", patient="a"), case("b")]
    with pytest.raises(InputError, match="the patient a is named for validation and for test"):
        make_split(twins, SplitConfig(test_cases=("a1",), validation_cases=("a2",)), 0)


def test_a_split_comes_back_from_its_file(tmp_path: Path) -> None:
    split = make_split(CASES, SplitConfig(), 0)
    write_split(tmp_path / "split.json", split, 0)
    assert read_split(tmp_path / "split.json") == split
    (tmp_path / "split.json").write_text('{"train": ["a"], "test": []}')
    with pytest.raises(InputError, match="lacks the list of case ids 'validation'"):
        read_split(tmp_path / "split.json")
    (tmp_path / "split.json").write_text("train: a")
    with pytest.raises(InputError, match="is not JSON"):
        read_split(tmp_path / "split.json")
    with pytest.raises(InputError, match="there is no split"):
        read_split(tmp_path / "absent.json")


def parts(train: list[str], validation: list[str], test: list[str]) -> dict[str, list[str]]:
    return {"train": train, "validation": validation, "test": test}


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        (parts(["a1", "b"], ["c"], ["b"]), "leaks a patient: b is in train and in test"),
        (parts(["a1", "a1"], [], []), "a1 is twice in train"),
        (parts(["a1"], ["a2"], ["b"]), r"a1 and a2 \(the same patient\) are in train and in validation"),
        (parts(["b"], ["c"], ["d"]), r"b and d \(the same patient\) are in train and in test"),
        (parts(["a1"], ["bb"], []), "names bb, which is not in the data set; did you mean b"),
        (parts([], ["a1"], []), "nobody to train on"),
    ],
)
def test_a_split_that_leaks_a_patient_names_it(split: dict[str, list[str]], reason: str) -> None:
    cases = [case("a1", patient="a"), case("a2", patient="a"), case("b"), case("c"), case("d")]
    with pytest.raises(InputError, match=reason):
        check_split(split, cases, {"b": "same bytes", "d": "same bytes", "c": "others"})


def test_cases_that_a_split_leaves_out_are_nobodys() -> None:
    check_split(parts(["a"], [], ["b"]), [case(name) for name in "abc"])
