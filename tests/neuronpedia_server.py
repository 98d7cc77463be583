"""A stand-in for Neuronpedia on 127.0.0.1, with recorded shapes of its replies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


@dataclass
class SiteState:
    """What the site holds, how it misbehaves, and what it was asked."""

    features: dict[tuple[str, str, int], dict[str, Any]] = field(default_factory=dict)
    graphs: dict[str, bytes] = field(default_factory=dict)
    failing: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """(status, headers) of the next replies, before the site is well again."""
    down: int | None = None
    """Status of every reply."""
    batches: bool = True
    """Whether many features can be asked for at once."""
    redirect: str | None = None
    """Where every keyed request is sent on to."""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(method, path, headers) of each request."""
    silent: bool = False
    """Whether requests are taken and never answered."""
    hanging: str = ""
    """Requests whose path begins so are never answered either."""
    drips: bool = False
    """Whether replies come a byte at a time."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends, for those that wait."""
    received: list[bytes] = field(default_factory=list)
    url: str = ""

    def add(self, layer: int, index: int, label: str, **more: Any) -> None:
        """Add a feature of gemma-2-2b as the site describes one."""
        source = f"{layer}-gemmascope-transcoder-16k"
        self.features["gemma-2-2b", source, index] = {
            "modelId": "gemma-2-2b",
            "layer": source,
            "index": str(index),
            "sourceSetName": "gemmascope-transcoder-16k",
            "creatorId": "abc",
            "maxActApprox": 41.25,
            "frac_nonzero": 0.0123,
            "pos_str": [" Texas", " Austin", "TX"],
            "pos_values": [1.5, 1.25, 0.5],
            "neg_str": [" Paris"],
            "neg_values": [-0.75],
            "freq_hist_data_bar_heights": [5, 2, 1],
            "freq_hist_data_bar_values": [0.5, 1.5, 2.5],
            "explanations": [
                {"description": "an older guess", "typeName": "oai_token-act-pair", "scores": []},
                {"description": label, "typeName": "np_max-act-logits", "scores": []},
            ],
            "activations": [
                {
                    "id": "x",
                    "tokens": ["<bos>", "The", " Dallas", " area"],
                    "values": [0, 0, 41.25, 3.5],
                    "maxValue": 41.25,
                    "maxValueTokenIndex": 2,
                    "qualifyingTokenIndex": None,
                },
                {"id": "y", "tokens": [" Houston"], "values": [30.0], "maxValue": 30},
            ],
            "neuron_alignment_indices": [],
            **more,
        }

    def paths(self, method: str = "GET") -> list[str]:
        """Paths asked for."""
        return [path for m, path, _ in self.asked if m == method]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: SiteState

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        state, path = self.state, unquote(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        state.asked.append((self.command, path, dict(self.headers.items())))
        if state.silent or (state.hanging and path.startswith(state.hanging)):
            state.over.wait()
            self.close_connection = True
            return None
        if state.failing:
            status, headers = state.failing.pop(0)
            return self._send(status, {"message": "no"}, headers)
        if state.down:
            return self._send(state.down, {"message": "no"})
        if state.redirect and "x-api-key" in {k.lower() for k in self.headers}:
            return self._send(302, {}, {"Location": state.redirect})
        parts = path.split("?")[0].strip("/").split("/")
        if self.command == "PUT":
            state.received.append(body)
            return self._send(200, {})
        if parts[:2] == ["api", "features"] and state.batches:
            wanted = [(f["modelId"], f["layer"], f["index"]) for f in json.loads(body)]
            return self._send(200, [state.features[w] for w in wanted if w in state.features])
        if parts[:2] == ["api", "feature"] and len(parts) == 5:
            return self._found(state.features.get((parts[2], parts[3], int(parts[4]))))
        if parts[:2] == ["api", "graph"] and self.command == "GET" and parts[-1] in state.graphs:
            entry = {
                "id": "1", "modelId": parts[2], "slug": parts[3], "promptTokens": [],
                "prompt": "p", "url": f"{state.url}/files/{parts[3]}.json", "isFeatured": False,
            }  # fmt: skip
            return self._send(200, entry)
        if parts[0] == "files":
            return self._send(200, state.graphs[parts[1].removesuffix(".json")])
        if parts == ["api", "graph", "signed-put"]:
            url = f"{state.url}/bucket/file.json?X-Amz-Signature=secretsignature"
            return self._send(200, {"url": url, "key": "k", "putRequestId": "r7"})
        if parts == ["api", "graph", "save-to-db"]:
            state.received.append(body)
            return self._send(
                200, {"message": "saved", "url": f"{state.url}/gemma-2-2b/graph?slug=s"}
            )
        return self._found(None)

    def _found(self, value: Any) -> None:
        self._send(200 if value else 404, value or {"message": "not found"})

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not self.state.drips:
            self.wfile.write(data)
            return
        self.close_connection = True
        with suppress(OSError):
            for i in range(len(data)):
                self.wfile.write(data[i : i + 1])
                self.wfile.flush()
                if self.state.over.wait(0.05):
                    return


@contextmanager
def serve() -> Iterator[SiteState]:
    """Run the stand-in until the block ends."""
    state = SiteState()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield state
    finally:
        state.over.set()
        server.shutdown()
        server.server_close()
