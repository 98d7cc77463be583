"""Careful HTTP: time limits, size limits, retries with back-off, and a cache on disk."""

from __future__ import annotations

import atexit
import email.utils
import hashlib
import json
import logging
import os
import random
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from circuit_nb.files import write_bytes
from circuit_nb.hub.http_client import httpx
from circuit_nb.hub.watch import LEAST, Stalled, Watch
from circuit_nb.strict_json import MAX_BYTES
from circuit_nb.version import __version__

_RETRIED = (408, 429, 500, 502, 503, 504)
_CHUNK = 2**16


class NeuronpediaError(OSError):
    """Neuronpedia could not be asked or did not give what was asked for.

    `status` is the HTTP status, or None where there was no reply.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Patience:
    """How long a request is tried."""

    attempts: int = 5
    """Requests at most, the first included."""
    first_wait: float = 1.0
    """Seconds before the second attempt; doubled each time."""
    longest_wait: float = 60.0
    """A server that asks for a longer wait than this, in seconds, is not waited for."""
    timeout: float = 30.0
    """Seconds in which a reply has to end, or 256 KiB more of it have to come; what is slower is
    not tried again."""


def cache_folder() -> Path:
    """Where replies are kept: `CIRCUIT_NB_CACHE`, else the user's cache folder."""
    if named := os.environ.get("CIRCUIT_NB_CACHE"):
        return Path(named).expanduser() / "neuronpedia"
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "circuit-nb" / "neuronpedia"


def request(
    method: str,
    url: str,
    *,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    patience: Patience | None = None,
) -> bytes:
    """Send one request, again where that may help, and return the reply's body.

    A request that carries headers of its own (a key) is never redirected.

    Raises:
        NeuronpediaError: If there is no good reply; the message says why, and never what was sent.
    """
    patience, host = patience or Patience(), urlsplit(url).hostname or url[:80]
    if urlsplit(url).scheme not in ("http", "https"):
        raise NeuronpediaError(f"{url[:80]!r} is no http(s) address.")
    reason, status = "", None
    for attempt in range(patience.attempts):
        try:
            status, wait, body = _once(method, url, content, headers, patience.timeout)
        except (Stalled, httpx().TimeoutException):
            reason, status = f"does not answer within {patience.timeout:g} s", None
            break
        except (httpx().RequestError, httpx().InvalidURL) as error:
            reason, status, wait = f"cannot be reached ({type(error).__name__})", None, None
        else:
            if 200 <= status < 300:
                return body
            reason = _said(status)
            if status not in _RETRIED:
                break
        if wait is not None and wait > patience.longest_wait:
            reason += f" and asks to wait {wait:.0f} s; try again then"
            break
        if attempt + 1 < patience.attempts:
            backoff = patience.first_wait * 2**attempt * random.uniform(0.75, 1.25)
            time.sleep(min(max(wait or 0.0, backoff), patience.longest_wait))
    raise NeuronpediaError(f"{host} {reason}.", status)


@contextmanager
def unlogged() -> Generator[None, None, None]:
    """Keep the HTTP client from logging addresses: a signed one is a key in itself."""
    logger = logging.getLogger(httpx().__name__)

    def drop(_: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def _said(status: int) -> str:
    known = {
        401: "refuses the key (401); check NEURONPEDIA_API_KEY",
        403: "refuses access (403)",
        404: "has nothing there (404)",
        429: "says there were too many requests (429)",
    }
    return known.get(status, f"answers with an error ({status})")


def _once(
    method: str, url: str, content: bytes | None, headers: Mapping[str, str] | None, timeout: float
) -> tuple[int, float | None, bytes]:
    """Status, seconds the server asks to wait, and body of one request."""
    sent = {"user-agent": f"circuit-nb/{__version__}", **(headers or {})}
    # As much time for a byte that is sent as for one that comes.
    watch = Watch(timeout * (1 + len(content or b"") // LEAST))
    exchange = watch.exchange()
    options = {"timeout": timeout, "follow_redirects": not headers}

    def ask() -> tuple[int, float | None, bytes]:
        with _client().stream(
            method, url, content=content, headers=sent, extensions={"trace": exchange}, **options
        ) as reply:
            exchange.answered(reply)
            body = bytearray()
            for chunk in reply.iter_bytes(_CHUNK):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise NeuronpediaError(
                        f"A reply is over {MAX_BYTES // 2**20} MB; it is not read."
                    )
            wait = _asked_wait(reply.headers.get("retry-after"))
            return reply.status_code, wait, bytes(body)

    return watch.run(ask)


def _asked_wait(retry_after: str | None) -> float | None:
    """Seconds named by a Retry-After header, which holds seconds or a date."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


@lru_cache(maxsize=1)
def _client() -> Any:
    """One client for the process, so that connections are kept open between requests."""
    client = httpx().Client()
    atexit.register(client.close)
    return client


class Cache:
    """Replies kept on disk as JSON, one file each, named by the hash of what was asked."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or cache_folder()

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
        return self._folder / digest[:2] / f"{digest}.json"

    def read(self, key: str, max_age: float = float("inf")) -> dict[str, Any] | None:
        """What was kept at most `max_age` seconds ago; None if nothing, or nothing readable."""
        path = self._path(key)
        try:
            if time.time() - path.stat().st_mtime > max_age:
                return None
            value = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def write(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a reply; a folder that cannot be written to is not an error."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # What is lost of a cache is asked for again: not worth waiting for the disk.
            write_bytes(path, json.dumps(value).encode(), sync=False)
        except OSError:
            return
