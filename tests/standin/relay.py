"""Stands between programs of Windows under Wine and the stand-in: a wsl.exe there (`wsl.c`) reaches it here.

    RUNNER_WINDOWS_FACTS=… python relay.py

Listens on 127.0.0.1 and prints its port, which is RUNNER_STANDIN_PORT for wsl.exe; ends with its own standard
input. A copy of wsl.exe by the name elevate.exe plays the administrator's helper in the same way. What goes
over the connection is described in `wsl.c`.
"""

from __future__ import annotations

import os
import socket
import socketserver
import subprocess
import sys
import threading
from pathlib import Path, PureWindowsPath

sys.path.insert(0, str(Path(__file__).resolve().parent))

from command_line import split_arguments
from world import World

HERE = Path(__file__).resolve().parent
BLOCK = 1 << 16
OURS = ("RUNNER_WINDOWS_FACTS", "PATH", "HOME", "TMPDIR", "PYTHONPATH")  # other on the two sides


class ClosedError(Exception):
    """The other side is gone."""


class Call(socketserver.BaseRequestHandler):
    """One wsl.exe, from its start to its end."""

    request: socket.socket

    def setup(self) -> None:
        self._sending = threading.Lock()

    def handle(self) -> None:
        kind, header = self._receive()
        assert kind == b"H", kind
        line, folder, *variables = header.decode("utf-8").split("\0")
        told, code_pipe = os.pipe()
        command, env = self._command(line, code_pipe)
        # As in WSL, what Windows has in its environment passes only by name, which the stand-in decides.
        given = dict(item.split("=", 1) for item in variables if "=" in item[1:])
        env |= {name: value for name, value in given.items() if name not in OURS}
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, env=env, cwd=_folder(folder), stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=(code_pipe,)
        )  # fmt: skip
        os.close(code_pipe)
        threading.Thread(target=self._pass_input, args=(process,), daemon=True).start()
        outputs = [
            threading.Thread(target=self._pass_output, args=(kind, stream), daemon=True)
            for kind, stream in ((b"1", process.stdout), (b"2", process.stderr))
        ]
        for thread in outputs:
            thread.start()
        for thread in outputs:
            thread.join()
        process.wait()
        with os.fdopen(told, "rb") as code:
            exact = code.read(4)
        self._send(b"X", exact or process.returncode.to_bytes(4, "big", signed=True))

    def _command(self, line: str, code_pipe: int) -> tuple[list[str], dict[str, str]]:
        program, *arguments = split_arguments(line)
        if PureWindowsPath(program).stem.lower() == "elevate":
            return [sys.executable, str(HERE / "elevate"), *arguments], dict(os.environ)
        told = {"RUNNER_STANDIN_LINE": line, "RUNNER_STANDIN_CODE_PIPE": str(code_pipe)}
        return [sys.executable, str(HERE / "wsl")], {**os.environ, **told}

    def _pass_input(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            while True:
                _, block = self._receive()
                if not block:
                    process.stdin.close()
                    continue
                try:
                    process.stdin.write(block)
                    process.stdin.flush()
                except OSError:  # it reads no more, and may still be at work
                    continue
        except ClosedError:
            process.kill()

    def _pass_output(self, kind: bytes, stream: object) -> None:
        number = stream.fileno()  # type: ignore[attr-defined]
        while block := os.read(number, BLOCK):
            self._send(kind, block)

    def _send(self, kind: bytes, block: bytes) -> None:
        with self._sending:
            try:
                self.request.sendall(kind + len(block).to_bytes(4, "big") + block)
            except OSError:
                return  # whoever reads the other side has noticed

    def _receive(self) -> tuple[bytes, bytes]:
        head = self._exactly(5)
        return head[:1], self._exactly(int.from_bytes(head[1:], "big"))

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            try:
                block = self.request.recv(min(BLOCK, count - len(got)))
            except OSError:
                block = b""
            if not block:
                raise ClosedError
            got += block
        return got


def _folder(windows: str) -> Path:
    """Return what a folder of Windows is here: one of the played drives, else Wine's view of this machine."""
    path = PureWindowsPath(windows)
    drive = World.from_environment().read().get("drives", {}).get(path.drive[:1].upper())
    found = Path(drive or "/", *path.parts[1:])
    return found if found.is_dir() else Path("/")


class Relay(socketserver.ThreadingTCPServer):
    """Serves every wsl.exe in a thread of its own."""

    daemon_threads = True


if __name__ == "__main__":
    with Relay(("127.0.0.1", 0), Call) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        sys.stdout.write(f"{relay.server_address[1]}\n")
        sys.stdout.flush()
        sys.stdin.read()
