"""Work shared by processes through one folder: nothing twice, nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from DiffMaCore.errors import OutputError
from DiffMaCore.inference.claims import Claims


def _quick(folder: Path) -> Claims:
    return Claims(folder, beat=0.05, patience=0.5)


def test_a_piece_is_claimed_by_one_and_settled_for_all(tmp_path: Path) -> None:
    with Claims(tmp_path / "c") as one, Claims(tmp_path / "c") as other:
        assert one.claim("a/b [1]*.nii.gz")
        assert not other.claim("a/b [1]*.nii.gz")
        assert other.claim("a/b 1.nii.gz")
        assert other.settled("a/b [1]*.nii.gz") is None
        one.settle("a/b [1]*.nii.gz", {"state": "made"})
        assert other.settled("a/b [1]*.nii.gz") == {"state": "made"}
        assert not other.claim("a/b [1]*.nii.gz")
    assert not (tmp_path / "c").exists()


def test_of_many_that_want_every_piece_each_gets_some_and_none_is_given_twice(tmp_path: Path) -> None:
    pieces = [f"piece {n}" for n in range(40)]
    start, end = Barrier(8), Barrier(8)  # who starts later looks again at what is settled

    def work(number: int) -> list[str]:
        with _quick(tmp_path / "c") as claims:
            mine = []
            start.wait(20)
            for piece in pieces:
                if claims.settled(piece) is None and claims.claim(piece):
                    time.sleep(0.002)
                    mine.append(piece)
                    claims.settle(piece, {})
            end.wait(20)
            return mine

    with ThreadPoolExecutor(8) as pool:
        taken = Counter(piece for mine in pool.map(work, range(8)) for piece in mine)
    assert taken == Counter(pieces)


def test_the_piece_of_one_that_shows_no_life_is_taken_over_by_one_only(tmp_path: Path) -> None:
    with _quick(tmp_path / "c") as lost, _quick(tmp_path / "c") as one, _quick(tmp_path / "c") as other:
        assert lost.claim("a")
        time.sleep(0.8)
        assert not one.claim("a")  # it lives
        lost._leave.set()
        lost._heart.join()
        assert not one.claim("a") and not other.claim("a")  # not seen long enough
        time.sleep(0.6)
        assert [one.claim("a"), other.claim("a"), one.claim("a")] == [True, False, False]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal 0")
def test_a_process_that_died_on_this_machine_is_lost_at_once(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from DiffMaCore.inference.claims import Claims
claims = Claims(Path({str(tmp_path / "c")!r}))
claims.__enter__()
assert claims.claim("a")
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert list((tmp_path / "c").glob("a.claim-0"))
    with Claims(tmp_path / "c") as claims:
        assert claims.claim("a")
    assert not (tmp_path / "c").exists()


def test_a_claim_whose_name_was_never_written_is_taken_over_too(tmp_path: Path) -> None:
    with _quick(tmp_path / "c") as claims:
        (tmp_path / "c" / "a.claim-0").touch()
        assert not claims.claim("a")
        time.sleep(0.6)
        assert claims.claim("a")


def test_what_an_earlier_start_settled_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.settled").write_text('{"state": "failed"}')
    with Claims(tmp_path / "c") as claims:
        assert claims.settled("a") is None and claims.claim("a")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write into"), Claims(tmp_path / "file" / "c"):
        pass


def test_who_enters_while_the_last_one_clears_away_works_on(tmp_path: Path) -> None:
    leaves, enters = Claims(tmp_path / "c"), Claims(tmp_path / "c")
    lost = leaves._lost

    def lost_while_another_enters(worker: str, where: str = "") -> bool:
        found = lost(worker, where)
        enters.__enter__()
        return found

    with leaves:
        (tmp_path / "c" / "worker-gone").touch()  # of a process that was killed
        leaves._lost = lost_while_another_enters  # type: ignore[method-assign]
    assert enters.claim("a")
    enters.settle("a", {"state": "made"})
    assert enters.settled("a") == {"state": "made"}
    enters.__exit__()
    assert not (tmp_path / "c").exists()


def test_who_enters_makes_the_folder_again_that_was_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = Claims(tmp_path / "c")
    show, cleared = claims._show, []

    def show_after_another_cleared_away(count: int) -> None:
        if not cleared:
            cleared.append((tmp_path / "c").rmdir())
        show(count)

    monkeypatch.setattr(claims, "_show", show_after_another_cleared_away)
    with claims:
        assert claims.claim("a")


def test_many_that_come_and_go_do_not_disturb_each_other(tmp_path: Path) -> None:
    start = Barrier(8)

    def work(number: int) -> int:
        start.wait(20)
        claimed = 0
        for turn in range(40):
            with Claims(tmp_path / "c") as claims:
                if claims.claim(f"{number} {turn}"):
                    claims.settle(f"{number} {turn}", {})
                    claimed += 1
        return claimed

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [40] * 8
    assert not (tmp_path / "c").exists()
