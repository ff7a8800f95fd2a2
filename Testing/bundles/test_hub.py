"""Downloads: resumed, checked, and installed in one step or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from DiffMaCore.bundles import hub, store
from DiffMaCore.bundles.transfer import DownloadProgress
from DiffMaCore.errors import ModelError

from .local_server import LocalServer, serving

REPO = "someone/tiny-model"
WEIGHTS = "denoiser/diffusion_pytorch_model.safetensors"
Zip = Callable[[], bytes]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_TOKEN", "secret-token")
        yield running


@pytest.fixture
def zipped(bundle: Path, zip_of: Callable[[Path, Path], Path], tmp_path: Path) -> bytes:
    return zip_of(bundle, tmp_path / "served.zip").read_bytes()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def installed() -> list[str]:
    return [name for name in store.installed_names() if name != "demo"]


def test_a_hub_model_is_installed_with_progress_and_found_again_by_its_id(
    server: LocalServer, home: Path, bundle: Path
) -> None:
    server.offer_hub_model(REPO, bundle)
    seen: list[DownloadProgress] = []
    target = hub.download(REPO, report=seen.append)
    assert store.verify_installed("tiny") == target == store.resolve(REPO)
    assert seen[-1].done == seen[-1].total > 256000 and seen[-1].eta == 0
    assert store.describe("tiny", target).source == f"hub {REPO}@{('c0ffee' * 6)[:12]}"
    assert not list((home / "models" / ".partial").iterdir())


def test_finding_a_hub_id_downloads_it_once(server: LocalServer, home: Path, bundle: Path) -> None:
    server.offer_hub_model(REPO, bundle)
    target = hub.find(REPO)
    server.files.clear()
    assert hub.find(REPO) == hub.find("tiny") == target
    with pytest.raises(ModelError, match="There is no model 'tinny'"):
        hub.find("tinny")


def test_a_transfer_that_breaks_off_is_continued(server: LocalServer, home: Path, bundle: Path) -> None:
    server.offer_hub_model(REPO, bundle)
    server.breaks = 2
    hub.download(REPO)
    assert server.ranges and installed() == ["tiny"]


def test_a_transfer_that_stays_incomplete_is_told_and_continued_by_the_next_call(
    server: LocalServer, home: Path, zipped: bytes
) -> None:
    server.files["/m/tiny.zip"] = zipped
    server.breaks = 3
    with pytest.raises(ModelError, match=r"broke off after \d+ bytes: run the same command again"):
        hub.download(f"{server.url}/m/tiny.zip", sha256=sha(zipped))
    assert installed() == []
    server.ranges.clear()
    hub.download(f"{server.url}/m/tiny.zip", sha256=sha(zipped))
    assert len(server.ranges) == 1 and installed() == ["tiny"]
    assert not list((home / "models" / ".partial").iterdir())


def test_a_wrong_checksum_of_a_zip_is_refused_and_the_file_deleted(
    server: LocalServer, home: Path, zipped: bytes
) -> None:
    server.files["/tiny.zip"] = zipped
    with pytest.raises(ModelError, match="another checksum"):
        hub.download(f"{server.url}/tiny.zip", sha256="0" * 64)
    assert installed() == [] and not list(home.rglob("*.zip*"))


def test_a_zip_from_the_web_needs_a_checksum(server: LocalServer, home: Path) -> None:
    with pytest.raises(ModelError, match="--sha256"):
        hub.download(f"{server.url}/tiny.zip")
    with pytest.raises(ModelError, match="64 hexadecimal digits"):
        hub.download(f"{server.url}/tiny.zip", sha256="abc")


def test_a_zip_behind_a_file_url_is_installed(
    home: Path, bundle: Path, zipped: bytes, tmp_path: Path
) -> None:
    url = (tmp_path / "served.zip").as_uri()
    with pytest.raises(ModelError, match="another checksum"):
        hub.download(url, sha256="0" * 64)
    assert hub.download(url, sha256=sha(zipped), name="filed").name == "filed"


def test_a_file_that_differs_from_the_manifest_is_not_installed(
    server: LocalServer, home: Path, bundle: Path
) -> None:
    server.offer_hub_model(REPO, bundle)
    path = next(path for path in server.files if path.endswith("denoiser/config.json"))
    server.files[path] = server.files[path].replace(b"512", b"513")
    with pytest.raises(ModelError, match=r"config.json arrived with another checksum"):
        hub.download(REPO)
    assert installed() == []


def test_a_hub_whose_own_checksum_contradicts_the_manifest_is_refused_at_once(
    server: LocalServer, home: Path, bundle: Path
) -> None:
    server.offer_hub_model(REPO, bundle)
    key = next(path for path in server.files if path.startswith("/api"))
    info = json.loads(server.files[key])
    next(s for s in info["siblings"] if s["rfilename"] == WEIGHTS)["lfs"]["sha256"] = "0" * 64
    server.files[key] = json.dumps(info).encode()
    with pytest.raises(ModelError, match=f"{WEIGHTS} on the hub is not the file"):
        hub.download(REPO)


def test_a_taken_name_is_told_before_the_weights_are_fetched(
    server: LocalServer, home: Path, bundle: Path
) -> None:
    store.add(bundle)
    server.offer_hub_model(REPO, bundle)
    del server.files[next(path for path in server.files if path.endswith(WEIGHTS))]
    with pytest.raises(ModelError, match="installed already"):
        hub.download(REPO)


def test_a_hub_repository_that_is_no_bundle_is_told_so(
    server: LocalServer, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    server.offer_hub_model(REPO, tmp_path / "other")
    with pytest.raises(ModelError, match=r"no manifest.json"):
        hub.download(REPO)


def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(
    server: LocalServer, home: Path, bundle: Path
) -> None:
    server.offer_hub_model(REPO, bundle)
    with serving() as storage:
        path = next(path for path in server.files if path.endswith(WEIGHTS))
        storage.files["/blob"] = server.files.pop(path)
        server.redirect[path] = f"{storage.url}/blob"
        hub.download(REPO)
        assert set(server.authorizations) == {"Bearer secret-token"}
        assert storage.authorizations == [None]


@pytest.mark.parametrize("source", [REPO, "http://127.0.0.1:9/tiny.zip"])
def test_without_a_network_one_sentence_names_the_remedy(
    home: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(ModelError, match=r"cannot be reached .*another machine.*diffma models add ZIP"):
        hub.download(source, sha256="0" * 64)
    assert installed() == []


def test_an_unknown_id_and_forbidden_downloads_are_told(
    server: LocalServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="HTTP 404"):
        hub.download("nobody/nothing")
    for source in ("plainname", "ftp://host/a.zip", "a/../b", "a/b/c"):
        with pytest.raises(ModelError, match="neither a hub id"):
            hub.download(source)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        hub.download(REPO)
