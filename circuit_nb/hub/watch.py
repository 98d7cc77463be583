"""One overall deadline for what is asked of the network, and an interrupt that is obeyed at once.

A client's own time limits are for a silence between two bytes: a server that sends one now and
then holds it for ever, and threads that read cannot be interrupted. Here the work runs in a
thread of its own while the caller waits and watches what arrives; when too little does, or the
caller is interrupted, every connection is cut, and nothing is asked any more.
"""

from __future__ import annotations

import contextvars
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds in which a reply has to end, or `LEAST` bytes of it have to come."""
LEAST = 2**18
"""Bytes: 70 kbit/s, over which the slowest of lines can be told from a server that drips."""
SILENCE = 10.0
"""Seconds without a byte after which a request fails, where the client sets no limit itself."""
_TICK = 0.1


class Stalled(TimeoutError):
    """Too little came for too long."""


class _Exchange:
    """One request and its reply; as a client's `trace` extension it is told what happens."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._method = ""
        self._failed = False
        self._reply: Any = None

    def __call__(self, event: str, info: dict[str, Any]) -> None:
        opened = info.get("return_value")
        if hasattr(opened, "get_extra_info"):
            self._watch.connections.append(opened)
        self._failed = self._failed or event.endswith(".failed")

    def answered(self, reply: Any) -> None:
        """Its headers are here."""
        self._method, self._reply = reply.request.method, reply
        if stream := reply.extensions.get("network_stream"):
            self._watch.connections.append(stream)

    @property
    def failed(self) -> bool:
        return self._failed or (self._over and not self.whole)

    @property
    def open(self) -> bool:
        return not (self._failed or self._over)

    @property
    def _over(self) -> bool:
        return self._reply is not None and bool(self._reply.is_closed)

    @property
    def received(self) -> int:
        """Bytes of the body so far, as they were sent."""
        return 0 if self._reply is None else int(self._reply.num_bytes_downloaded)

    @property
    def whole(self) -> bool:
        """Whether the reply has ended, and not before its time."""
        if not self._over:
            return False
        length = self._reply.headers.get("content-length", "")
        return self._method == "HEAD" or not length.isdigit() or self.received >= int(length)


class Watch:
    """Work on the network that ends in time.

    Args:
        patience: Seconds in which a reply has to end, or `LEAST` bytes of it to come; `PATIENCE`
            if None.
    """

    def __init__(self, patience: float | None = None) -> None:
        self._patience = PATIENCE if patience is None else patience
        self._exchanges: list[_Exchange] = []
        self._given_up: set[threading.Thread] | None = None
        """Once the work was left alone: its threads."""
        self._progress = (0, 0)
        self._since = time.monotonic()
        self.connections: list[Any] = []
        """Network streams that were opened or read from."""

    def exchange(self) -> _Exchange:
        """A request that is about to be made; give it to the client as extension `trace`."""
        self._exchanges.append(_Exchange(self))
        return self._exchanges[-1]

    @contextmanager
    def over(self, client: Any) -> Generator[None]:
        """Within this, every request of an HTTP client is watched, whoever makes it.

        To be used within the work: so it also ends what goes on after the caller has left.
        """

        def asking(request: Any) -> None:
            if self._given_up is not None:
                if threading.current_thread() in self._given_up:
                    raise Stalled("given up")
                return
            limits = request.extensions.get("timeout") or {}
            given = {name: limits.get(name) for name in ("connect", "read", "write", "pool")}
            filled = {name: SILENCE if limit is None else limit for name, limit in given.items()}
            request.extensions = {**request.extensions, "timeout": filled, "trace": self.exchange()}

        def answered(reply: Any) -> None:
            exchange = reply.request.extensions.get("trace")
            if isinstance(exchange, _Exchange):
                exchange.answered(reply)

        mine = {"request": asking, "response": answered}
        client.event_hooks = {k: [*client.event_hooks[k], mine[k]] for k in mine}
        try:
            yield
        finally:
            client.event_hooks = {
                k: [hook for hook in client.event_hooks[k] if hook is not mine[k]] for k in mine
            }

    def run(self, work: Callable[[], T]) -> T:
        """Do the work in another thread and wait for it.

        Returns:
            What it returns; what it raises is raised here.

        Raises:
            Stalled: If a request was open and too little came for too long.
        """
        done = threading.Event()
        results: list[T] = []
        errors: list[BaseException] = []

        def act() -> None:
            try:
                results.append(work())
            except BaseException as error:
                errors.append(error)
            finally:
                done.set()

        before = threading.enumerate()
        self._since = time.monotonic()
        act_here = contextvars.copy_context().run
        threading.Thread(target=act_here, args=(act,), daemon=True).start()
        try:
            while not done.wait(_TICK):
                self._look()
        except BaseException:
            self._abandon({*threading.enumerate()} - {*before})
            raise
        if errors:
            raise errors[0]
        return results[0]

    def _look(self) -> None:
        exchanges = list(self._exchanges)
        ended = sum(x.whole for x in exchanges)
        received = sum(x.received for x in exchanges)
        now = time.monotonic()
        # After a failure the clock goes on, so that one attempt after the other is no progress.
        idle = not any(x.open for x in exchanges) and not (exchanges and exchanges[-1].failed)
        if idle or ended > self._progress[0] or received >= self._progress[1] + LEAST:
            self._progress, self._since = (ended, received), now
        elif any(x.open for x in exchanges) and now - self._since >= self._patience:
            raise Stalled(f"too little came for {self._patience:g} s")

    def _abandon(self, threads: set[threading.Thread]) -> None:
        """Cut every connection, so that whatever waits for one ends at once."""
        self._given_up = threads
        for stream in list(self.connections):
            with suppress(OSError, AttributeError, TypeError):
                held = stream.get_extra_info("socket")
                # Not the method of a TLS socket, which would first say goodbye.
                socket.socket.shutdown(held, socket.SHUT_RDWR)
