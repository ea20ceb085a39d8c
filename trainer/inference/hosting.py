"""Running the server: the port, the signals, and ending with the parent process."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from trainer.contract.errors import AppError

# How long open streams may take to end when the server is told to stop.
GRACE_S = 3
_LEFT_BEHIND_S = GRACE_S + 5.0


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not yet listening; port 0 takes a free one.

    Raises:
        AppError: `port_busy`; `host_unavailable`, the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AppError("host_unavailable", host=host, reason=error.strerror or str(error)) from error
    try:
        if os.name == "posix":
            # Without it the port of a server that just ended would count as busy for a minute.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(socket.SOMAXCONN)
    except OSError as error:
        sock.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise AppError("port_busy", port=port) from error
        raise AppError("host_unavailable", host=host, reason=error.strerror or str(error)) from error
    return sock


class Server(uvicorn.Server):
    """uvicorn, ending with status 0 on SIGINT and SIGTERM: being stopped is how a server ends.

    Args:
        app: the ASGI application.
        on_ready: called once connections are accepted.
    """

    def __init__(self, app: Any, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S)
        )
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def exit_with_parent(stop: Callable[[], bool]) -> None:
    """End this process when its stdin closes, which the system does when the parent dies.

    Args:
        stop: asks for an orderly end; False if there is nothing yet that could be asked.
    """

    def watch() -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        if stop():
            threading.Event().wait(_LEFT_BEHIND_S)
        os._exit(0)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
