"""A file server on 127.0.0.1 that can resume, break off and lie; and the two answers of a hub that we use."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class LocalServer(ThreadingHTTPServer):
    """``files`` by URL path; the next ``breaks`` bodies longer than 1 kB end after half of what is left."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.breaks = 0
        self.ranges: list[str] = []
        self.authorizations: list[str | None] = []
        self.redirect: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def offer_hub_model(self, repo: str, folder: Path, commit: str = "c0ffee" * 6) -> None:
        """Serve a folder the way a hub does."""
        siblings = []
        for path in (path for path in folder.rglob("*") if path.is_file()):
            name, data = path.relative_to(folder).as_posix(), path.read_bytes()
            lfs = (
                {"lfs": {"sha256": hashlib.sha256(data).hexdigest()}} if name.endswith("safetensors") else {}
            )
            siblings.append({"rfilename": name, "size": len(data), **lfs})
            self.files[f"/{repo}/resolve/{commit}/{name}"] = data
        info = {"id": repo, "sha": commit, "siblings": [*siblings, {"rfilename": ".gitattributes"}]}
        self.files[f"/api/models/{repo}/revision/main?blobs=true"] = json.dumps(info).encode()


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer

    def do_GET(self) -> None:
        self.server.authorizations.append(self.headers.get("Authorization"))
        if target := self.server.redirect.get(self.path):
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()
            return
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = 0
        if wanted := self.headers.get("Range"):
            self.server.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        body = data[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.breaks and len(body) > 1000:
            self.server.breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[LocalServer]:
    server = LocalServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
