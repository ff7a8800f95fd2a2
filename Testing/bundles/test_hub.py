"""Downloads: continued, checked, and installed in one step or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from DiffMaCore.bundles import hub, store
from DiffMaCore.errors import ModelError, OutputError

from .local_server import COMMIT, LocalHub, serving

REPO = "someone/tiny-model"
WEIGHTS = "denoiser/diffusion_pytorch_model.safetensors"


def use(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does, which huggingface_hub reads once."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with serving() as running:
        use(running.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield running


def installed() -> list[str]:
    return [name for name in store.installed_names() if name not in store.bundled_names()]


def leftovers(home: Path) -> list[Path]:
    partial = home / "models" / ".partial"
    return list(partial.iterdir()) if partial.exists() else []


def test_a_hub_model_is_installed_and_found_again_by_its_id(server: LocalHub, home: Path, bundle: Path) -> None:
    server.offer(REPO, bundle)
    target = hub.download(REPO)
    assert store.verify_installed("tiny") == target == store.resolve(REPO)
    assert store.describe("tiny", target).source == f"hub {REPO}@{COMMIT[:12]}"
    assert not leftovers(home) and not (target / ".cache").exists()


def test_progress_tells_the_bytes_fetched_then_the_bytes_checked(
    server: LocalHub, home: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.offer(REPO, bundle)
    seen: list[tuple[int, int, str]] = []
    hub.download(REPO, report=lambda *told: seen.append(told))
    fetching = [done for done, _, what in seen if what.startswith("downloading ")]
    total = seen[-1][1]
    assert fetching == sorted(fetching) and fetching[-1] == total > 256000
    assert seen[-1][0] == total and seen[-1][2].startswith("checking ")
    assert capsys.readouterr() == ("", "")


def test_a_given_revision_and_name_are_used(server: LocalHub, home: Path, bundle: Path) -> None:
    server.offer(REPO, bundle)
    assert hub.download(REPO, COMMIT, "renamed").name == "renamed"
    with pytest.raises(ModelError, match="has no revision 'v9'; check `--revision`"):
        hub.download(REPO, "v9")


def test_finding_a_hub_id_downloads_it_once(server: LocalHub, home: Path, bundle: Path) -> None:
    server.offer(REPO, bundle)
    target = hub.find(REPO)
    server.files.clear()
    assert hub.find(REPO) == hub.find("tiny") == target
    with pytest.raises(ModelError, match="There is no model 'tinny'"):
        hub.find("tinny")


def test_files_that_the_manifest_does_not_list_stay_on_the_hub(server: LocalHub, home: Path, bundle: Path) -> None:
    (bundle / "pytorch_model.bin").write_bytes(b"not wanted")
    server.offer(REPO, bundle)
    assert not (hub.download(REPO) / "pytorch_model.bin").exists()
    assert "pytorch_model.bin" not in server.fetched


def test_a_transfer_that_breaks_off_is_continued(server: LocalHub, home: Path, bundle: Path) -> None:
    server.offer(REPO, bundle)
    server.breaks = 1
    hub.download(REPO)
    assert server.fetched.count(WEIGHTS) == 2 and installed() == ["tiny"]


def test_the_next_call_fetches_only_what_an_interrupted_one_left_out(
    server: LocalHub, home: Path, bundle: Path
) -> None:
    server.offer(REPO, bundle)
    weights = server.files.pop(server.path_of(WEIGHTS))
    with pytest.raises(ModelError, match="HTTP 404"):
        hub.download(REPO)
    assert installed() == [] and leftovers(home)
    server.files[f"/{REPO}/resolve/{COMMIT}/{WEIGHTS}"] = weights
    server.fetched.clear()
    seen: list[int] = []
    hub.download(REPO, report=lambda done, *_: seen.append(done))
    fetched = [path for path in server.fetched if not path.startswith("/api")]
    assert fetched[0] == WEIGHTS and "denoiser/config.json" not in fetched
    assert seen[0] > 0 and installed() == ["tiny"] and not leftovers(home)


def test_a_file_that_differs_from_the_manifest_is_not_installed_and_fetched_anew(
    server: LocalHub, home: Path, bundle: Path
) -> None:
    server.offer(REPO, bundle)
    path = server.path_of("denoiser/config.json")
    sound, server.files[path] = server.files[path], server.files[path].replace(b": 8", b": 9")
    with pytest.raises(ModelError, match=r"config.json was altered"):
        hub.download(REPO)
    assert installed() == [] and not leftovers(home)
    server.files[path] = sound
    assert hub.download(REPO).name == "tiny"


def test_a_hub_whose_own_checksum_contradicts_the_manifest_is_refused_before_the_weights(
    server: LocalHub, home: Path, bundle: Path
) -> None:
    server.offer(REPO, bundle, lies={WEIGHTS: "0" * 64})
    with pytest.raises(ModelError, match=f"{WEIGHTS} on the hub is not the file"):
        hub.download(REPO)
    assert WEIGHTS not in server.fetched and not leftovers(home)


def test_a_file_that_the_repository_lacks_is_named(server: LocalHub, home: Path, bundle: Path) -> None:
    (bundle / WEIGHTS).unlink()
    server.offer(REPO, bundle)
    with pytest.raises(ModelError, match=f"lacks {WEIGHTS}, which its manifest.json lists"):
        hub.download(REPO)


def test_a_taken_name_is_told_before_the_weights_are_fetched(server: LocalHub, home: Path, bundle: Path) -> None:
    store.add(bundle)
    server.offer(REPO, bundle)
    with pytest.raises(ModelError, match="installed already"):
        hub.download(REPO)
    assert WEIGHTS not in server.fetched and not leftovers(home)


def test_a_hub_repository_that_is_no_bundle_is_told_so(server: LocalHub, home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    server.offer(REPO, tmp_path / "other")
    with pytest.raises(ModelError, match=r"no manifest.json"):
        hub.download(REPO)


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        ((401, "RepoNotFound"), "not on the hub .HTTP 401.; check the spelling, or log in with `hf auth login`"),
        ((403, "GatedRepo"), "open to users its owner admits only; ask on its page for access"),
        ((403, "Forbidden"), "refused by the hub .HTTP 403.; log in with `hf auth login`"),
        ((404, "RepoNotFound"), "not on the hub .HTTP 404."),
        ((500, "Broken"), "the hub answered HTTP 500; try again later"),
    ],
)
def test_a_refusal_is_one_sentence_with_cause_and_remedy(
    server: LocalHub, home: Path, refusal: tuple[int, str], told: str
) -> None:
    server.refusal = refusal
    with pytest.raises(ModelError, match=told) as caught:
        hub.download(REPO)
    assert "\n" not in str(caught.value) and "`diffma models add ZIP`" in str(caught.value)


def test_a_page_instead_of_a_hub_is_told(server: LocalHub, home: Path) -> None:
    server.files[f"/api/models/{REPO}/revision/main"] = b"<html>please log in to the hospital's network</html>"
    with pytest.raises(ModelError, match="answer is not a hub's; look for a proxy"):
        hub.download(REPO)


def test_no_network_is_told(server: LocalHub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(ModelError, match=r"cannot be reached.*refused.*another machine.*diffma models add ZIP"):
        hub.download(REPO)
    assert installed() == []


def test_forbidden_downloads_are_told(server: LocalHub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids downloads: unset it"):
        hub.download(REPO)


@pytest.mark.parametrize("source", ["plainname", "https://host/a.zip", "a/../b", "a/b/c", "a--b/c"])
def test_what_is_no_hub_id_is_told_without_asking_a_hub(home: Path, source: str) -> None:
    with pytest.raises(ModelError, match="no hub id"):
        hub.download(source)


def test_a_store_that_cannot_be_written_is_told(server: LocalHub, home: Path, bundle: Path) -> None:
    server.offer(REPO, bundle)
    (home / "models").mkdir(parents=True)
    (home / "models" / ".partial").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write .*free some room or choose another folder with DIFFMA_HOME"):
        hub.download(REPO)


def test_the_command_downloads_from_the_hub_that_the_environment_names(
    server: LocalHub, home: Path, bundle: Path
) -> None:
    server.offer(REPO, bundle)
    words = [sys.executable, "-m", "DiffMaCore.cli.main", "models", "download", REPO]
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "") and "Installed tiny" in done.stdout
