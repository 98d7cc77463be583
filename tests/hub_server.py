"""A stand-in for the Hugging Face Hub on 127.0.0.1, with the routes that its client uses."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000
"""Files from this size on are served as LFS files: their ETag is their SHA-256."""


@dataclass
class HubState:
    """What the server holds, how it misbehaves, and what it was asked."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    valid_tokens: set[str] = field(default_factory=set)
    granted: set[str] = field(default_factory=set)
    """Tokens of accounts that accepted the terms of the gated repositories."""
    cut: dict[str, int] = field(default_factory=dict)
    """File name: bytes after which its next download breaks off."""
    broken: set[str] = field(default_factory=set)
    """Files whose every download breaks off at once."""
    changed: set[str] = field(default_factory=set)
    """Files served with one byte changed."""
    failing: int | None = None
    """Status that every request is answered with."""
    instead: tuple[dict[str, str], bytes] | None = None
    """Headers and body that every request is answered with, status 200."""
    silent: bool = False
    """Whether requests are taken and never answered."""
    drip: str = ""
    """Of what a byte is sent now and then: `headers`, `body`, or the name of a file."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends, for those that wait."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, Range header) of each request."""
    url: str = ""

    def downloads(self, name: str = "") -> list[tuple[str, str | None]]:
        """(path, Range) of the file downloads whose path ends with `name`."""
        return [(p, r) for m, p, r in self.asked
                if m == "GET" and "/resolve/" in p and p.endswith(name)]  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: HubState

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.state.asked.append((self.command, path, self.headers.get("range")))
        if self.state.silent:
            self.state.over.wait()
            self.close_connection = True
            return None
        if self.state.instead:
            return self._send(200, *self.state.instead)
        if self.state.failing:
            return self._error(self.state.failing)
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        if token and token not in self.state.valid_tokens:
            return self._error(401, message="Invalid credentials in Authorization header")
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = api or file
        if found is None or found[1] not in self.state.repos:
            return self._error(404 if token else 401, "RepoNotFound")
        revision = found[3] if api else found[2]
        if revision not in ("main", COMMIT):
            return self._error(404, "RevisionNotFound")
        # The real Hub lets everybody list a gated repository, but not download from it.
        if found[1] in self.state.gated and file and token not in self.state.granted:
            return self._error(403 if token else 401, "GatedRepo")
        if api:
            return self._listing(found[1], api[2])
        return self._file(found[1], found[3], body)

    def _error(self, status: int, code: str | None = None, message: str = "no") -> None:
        data = json.dumps({"error": message}).encode()
        headers = {"X-Error-Code": code} if code else {}
        self._send(status, {**headers, "X-Error-Message": message}, data)

    def _listing(self, repo: str, kind: str) -> None:
        files = self.state.repos[repo]
        if kind == "revision":
            names = [{"rfilename": name} for name in files]
            entry = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": names}
            return self._send(200, {}, json.dumps(entry).encode())
        entries = [
            {"type": "file", "path": name, "size": len(data), "oid": _git_oid(data)}
            | ({"lfs": {"oid": _sha(data), "size": len(data), "pointerSize": 130}}
               if len(data) >= LARGE else {})
            for name, data in files.items()
        ]  # fmt: skip
        return self._send(200, {}, json.dumps(entries).encode())

    def _file(self, repo: str, name: str, body: bool) -> None:
        data = self.state.repos[repo].get(name)
        if data is None:
            self._error(404, "EntryNotFound")
            return
        etag = _sha(data) if len(data) >= LARGE else _git_oid(data)
        if name in self.state.changed:
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        status, part = 200, data
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range") or ""):
            first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
            status, part = 206, data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        cut = self.state.cut.pop(name, 0 if name in self.state.broken else None) if body else None
        self._send(status, headers, part if body else b"", length=len(part), stop=cut)

    def _send(
        self, status: int, headers: dict[str, str], data: bytes, *,
        length: int | None = None, stop: int | None = None,
    ) -> None:  # fmt: skip
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        if self.state.drip == "headers":
            self.flush_headers()
            self._drip(b"X-Filler: " + b"x" * 400)
            return
        self.end_headers()
        if self.command == "HEAD":
            pass
        elif self.state.drip == "body" or (self.state.drip and self.path.endswith(self.state.drip)):
            self._drip(data)
        else:
            self.wfile.write(data[:stop])
        if stop is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def _drip(self, data: bytes) -> None:
        self.close_connection = True
        with suppress(OSError):
            for i in range(len(data)):
                self.wfile.write(data[i : i + 1])
                self.wfile.flush()
                if self.state.over.wait(0.05):
                    return


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serve() -> Iterator[HubState]:
    """Run the stand-in until the block ends."""
    state = HubState()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.over.set()
        server.shutdown()
        server.server_close()


def point_client_at(state: HubState, cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make huggingface_hub, which reads its environment once, use the stand-in and a cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", state.url)
    template = state.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(cache / "stored_tokens"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
