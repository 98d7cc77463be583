"""Point 10: a Hub and a Neuronpedia that are ill."""

from __future__ import annotations

import gzip
import json
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from registry import case, said

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = ("config.yaml", "layer_0.safetensors")


class Answer(BaseHTTPRequestHandler):
    """Base of what the servers say."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.answer()

    do_HEAD = do_POST = do_GET

    def answer(self) -> None:
        time.sleep(1000)  # silent

    def say(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Length": str(len(body)), **named}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, data: bytes) -> None:
        for byte in data:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.2)


class Header(Answer):
    """One header that does not end."""

    def answer(self) -> None:
        self.send_response(200)
        self.flush_headers()
        self.drip(b"X-Filler: " + b"x" * 4000)


class Body(Answer):
    """A body of which a byte comes now and then."""

    def answer(self) -> None:
        self.say(b"", Content_Length="5000")
        self.drip(b'{"a": "' + b"x" * 4000)


class Files(Answer):
    """Lists a set whose files never come."""

    def answer(self) -> None:
        if "/resolve/" in self.path:
            head = {"Content_Length": "5000", "ETag": '"abc"', "X_Repo_Commit": COMMIT}
            self.say(b"", **head)
            if self.command == "GET":
                self.drip(b"x" * 4000)
        elif "/tree/" in self.path:
            entries = [{"type": "file", "path": f, "size": 5000, "oid": "abc"} for f in FILES]
            self.say(json.dumps(entries).encode())
        else:
            listed = {"id": "ann/set", "sha": COMMIT, "siblings": [{"rfilename": f} for f in FILES]}
            self.say(json.dumps(listed).encode())


def saying(body: bytes, **headers: str) -> type[Answer]:
    """A server that always says the same."""

    class Fixed(Answer):
        def answer(self) -> None:
            self.say(body, **headers)

    return Fixed


@contextmanager
def server(answer: type[Answer]) -> Iterator[str]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), answer)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"


def timed(ask: Any, url: str) -> str:
    begun = time.monotonic()
    try:
        text = f"{ask()}"
    except BaseException as error:
        text = said(error)
    return f"after {time.monotonic() - begun:.0f} s {text.replace(url, 'http://…')}"


def hub(answer: type[Answer], interrupt: float = 0) -> str:
    """Load a set from a Hub, stopped by the reader after some seconds if asked."""
    from huggingface_hub import constants

    from circuit_nb import load

    with server(answer) as url:
        constants.ENDPOINT, constants.HF_HUB_CACHE = url, tempfile.mkdtemp()
        constants.HF_HUB_OFFLINE = False
        constants.HUGGINGFACE_CO_URL_TEMPLATE = url + "/{repo_id}/resolve/{revision}/{filename}"
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, interrupt)
        return timed(lambda: load("ann/model", "ann/set"), url)


HTML = saying(b"<html>Please log in</html>", Content_Type="text/html")
BRACES = saying(b"{}", Content_Type="application/json")
BRACKET = saying(gzip.compress(b"["), Content_Type="application/json", Content_Encoding="gzip")
case(10, "a Hub that answers 200 with HTML")(partial(hub, HTML))
case(10, "a Hub that answers `{}`")(partial(hub, BRACES))
case(10, "a Hub that answers a gzip of `[`")(partial(hub, BRACKET))
case(10, "a Hub that is silent")(partial(hub, Answer))
case(10, "a Hub that drips its headers")(partial(hub, Header))
case(10, "stopped by hand 2 s into a download that drips")(partial(hub, Files, 2))


@case(10, "a Neuronpedia that drips, two attempts of 1 s")
def neuronpedia_drips() -> str:
    from circuit_nb import neuronpedia
    from circuit_nb.neuronpedia import Patience

    with server(Body) as url:
        patience = Patience(attempts=2, timeout=1.0)
        return timed(lambda: neuronpedia.read(f"{url}/graph.json", patience=patience), url)
